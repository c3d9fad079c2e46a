"""What the operating system says that processes used. Linux only; nothing is asked of the processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, ended ones too, to the nanosecond.

    This is clock_gettime on the clock of another process; clock_getcpuclockid(3) builds the same number.
    Raises ProcessLookupError when the process has gone.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError as error:
        raise ProcessLookupError(pid) from error


def with_children(pid: int) -> list[int]:
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            pids += with_children(int(child))
    return pids


def pss_bytes(pids: Iterable[int]) -> int:
    """Resident memory, with pages that several processes share counted in parts (proportional set size)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


@dataclass(frozen=True, slots=True)
class Machine:
    """Seconds since boot that all cores together were busy, or taken by the hypervisor."""

    at_seconds: float
    busy_seconds: float
    stolen_seconds: float

    @classmethod
    def now(cls) -> Machine:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) * _TICK_SECONDS for field in fields[:8])
        return cls(time.monotonic(), user + nice + system + irq + softirq, steal)
