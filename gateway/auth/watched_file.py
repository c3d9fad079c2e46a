"""A file that is read again when it has changed."""

from __future__ import annotations

from pathlib import Path


class WatchedFile:
    """Changes are told by time and size; so replace the file, rather than write into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> bytes | None:
        """What it holds, if that is new; None while it is the same. Raises OSError."""
        found = self.path.stat()
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp == self._seen:
            return None
        content = self.path.read_bytes()
        self._seen = stamp
        return content
