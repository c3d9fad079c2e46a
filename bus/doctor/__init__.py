"""Checks that a Redis is suitable for Tailrace, by doing what a bus will do. May import all of the bus."""

from tailrace.bus.doctor.examination import examine
from tailrace.bus.doctor.judgement import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
