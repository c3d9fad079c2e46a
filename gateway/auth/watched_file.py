"""A file that is read again when it has changed."""

from __future__ import annotations

from pathlib import Path


class WatchedFile:
    """Changes are told by time and size; so replace the file, rather than write into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._refusal: int | None = None

    def changed(self) -> bytes | None:
        """What it holds, if that is new; None while it is the same.

        Raises OSError when it cannot be read, once as long as that stays so.
        """
        try:
            found = self.path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp == self._seen:
                return None
            content = self.path.read_bytes()
        except OSError as error:
            # Back again, it is read even if nothing was changed: so that the log says it.
            self._seen, before, self._refusal = None, self._refusal, error.errno
            if error.errno == before:
                return None
            raise
        self._seen, self._refusal = stamp, None
        return content
