"""Whether a Redis is fit for Tailrace, asked before it matters: by doing what will be done, not by reading manuals."""

from tailrace.bus.doctor.examination import examine
from tailrace.bus.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
