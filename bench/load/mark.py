"""The mark inside every event: its number in its run, the run, and when it was offered. Pure.

``~00000042.00007.0000001234567890``: fixed width, so that a viewer finds and checks it in the raw bytes
of any wire format without decoding the event. The nanoseconds are CLOCK_MONOTONIC's, which all
processes of a machine share.
"""

from __future__ import annotations

from typing import Final

SIGN: Final = b"~"
NUMBER: Final = slice(0, 8)
RUN: Final = slice(9, 14)
OFFERED_NS: Final = slice(15, 31)
WIDTH: Final = 31  # after the sign
MAX_RUNS: Final = 100_000


def mark(number: int, run: int, offered_ns: int) -> bytes:
    return b"~%08d.%05d.%016d" % (number, run, offered_ns)
