"""What a worker and the process that parses for it both know. The worker itself imports no parser: pypdf takes long."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

REQUEST: Final = struct.Struct("!cI")
FORK: Final = b"f"
KILL: Final = b"k"

MAX_PAGES = 20_000
# Called with how many pages are done, and of how many.
OnPage = Callable[[int, int], None]

# A parser that is stopped, or waits for a disk, uses no processor time; one on a busy machine comes late to its own.
_WAIT_FACTOR: Final = 10
_MIN_WAIT_SECONDS: Final = 60.0


def wait_seconds(processor_seconds: float) -> float:
    """What a task may take by the clock."""
    return max(_MIN_WAIT_SECONDS, _WAIT_FACTOR * processor_seconds)
