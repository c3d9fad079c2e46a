"""The throw-away directory that all users within this process share."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path


class PrivateDirectory:
    """Made for the first user, forgotten with the last; a forked child gets one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._pid = 0
        self._users = 0

    def enter(self) -> Path:
        """Raises OSError when there is no place for temporary files."""
        with self._lock:
            if self._path is None or self._pid != os.getpid():
                self._path = Path(tempfile.mkdtemp(prefix="tailrace-")).resolve()
                self._pid = os.getpid()
                self._users = 0
            self._users += 1
            return self._path

    def leave(self, path: Path) -> bool:
        """True for the last user of `path`: this process will not use it again."""
        with self._lock:
            if self._path != path or self._pid != os.getpid():
                return False
            self._users -= 1
            if self._users:
                return False
            self._path = None
            return True
