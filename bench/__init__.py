"""Measures Tailrace beside what a user would pick instead: `python -m bench` (see docs/performance.md)."""
