from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")
_AFTER_NAME = b") "
_ZOMBIE_STATES = (b"Z", b"X")


class ProcessGroup:
    """The processes that a program started, as far as they did not leave for a session of their own.

    The group's number is that of the program that leads it. It cannot go to strangers while the leader is not reaped,
    nor while anybody is in the group; when it is empty, that is noticed here and the number is never used again.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._is_gone = False

    def signal(self, number: int) -> bool:
        """Signal all of the group; False if nobody is left in it, or nobody that may be signalled."""
        if self._is_gone:
            return False
        try:
            os.killpg(self._number, number)
        except ProcessLookupError:
            self._is_gone = True
            return False
        except PermissionError:  # all of them run as another user
            return False
        return True

    def is_alive(self) -> bool:
        """Whether anybody in it runs. The leader must have been reaped.

        Zombies do not run, but they take signals: where orphans are not reaped (a container without an init), they
        would be waited for in vain. Only the process table tells them apart.
        """
        return self.signal(0) and (not _PROC.is_dir() or any(map(self._runs_here, _PROC.glob("[0-9]*/stat"))))

    def _runs_here(self, status: Path) -> bool:
        try:
            state, _parent, group, *_ = status.read_bytes().rpartition(_AFTER_NAME)[2].split()
        except OSError:  # gone in the meantime
            return False
        return int(group) == self._number and state not in _ZOMBIE_STATES
