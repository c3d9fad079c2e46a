"""How long the tests wait for what must happen: every such bound is scaled here, and so is pytest's per test.

A bound of waiting says only when to give up; it costs nothing while what is awaited comes. On a machine that is still
too slow or busy, raise the factor: ``TAILRACE_TEST_PATIENCE=20 make test``. A wait in which nothing must happen, and
a bound that the product promises, are not scaled; for the latter there is ``stretched``.
"""

from __future__ import annotations

import os
import time
from typing import Final

PATIENCE: Final = float(os.environ.get("TAILRACE_TEST_PATIENCE", "6"))
MEASURED_SECONDS: Final = 0.05


def patient(seconds: float) -> float:
    return seconds * PATIENCE


def stretched(seconds: float) -> float:
    """What a promise of so many seconds comes to on a machine as busy as this one is right now.

    For promises in time, which must hold to the letter where there is a processor for everybody: it is multiplied by
    how many times longer than alone this thread takes for a moment's work.
    """
    begun, worked = time.perf_counter(), time.thread_time()
    while time.thread_time() - worked < MEASURED_SECONDS:
        pass
    return seconds * max(1.0, (time.perf_counter() - begun) / MEASURED_SECONDS)
