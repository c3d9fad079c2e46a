"""Events as lines of JSON in a file that rotates by size."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from tailrace.bus.model.event import as_line
from tailrace.workers.handlers.delivery import Delivery

MAX_BYTES: Final = 64 * 1024 * 1024
KEEP_FILES: Final = 5
# A disk that is broken is asked again after so long.
AGAIN_SECONDS: Final = 1.0


class JsonlFile:
    """One line an event, appended whole or not at all. ``path`` is the newest; ``path.1`` the one before it, and so on.

    What could not be written raises OSError, which Handlers counts; ``lost_events`` counts it too, and when the disk
    takes lines again, one of type ``stream.gap`` with reason ``not_written`` says in the file how many are missing.
    The file is for one process. It is handed to the operating system line by line, and not forced to the disk.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, keep_files: int = KEEP_FILES
    ) -> None:
        """``max_bytes`` bounds each file, unless one event is larger; ``keep_files`` how many older ones are kept."""
        if max_bytes < 1 or keep_files < 0:
            raise ValueError(f"max_bytes is {max_bytes} and keep_files {keep_files}: expected at least 1 and 0")
        self.path = Path(path)
        self.lost_events = 0
        self._untold = 0
        self._max_bytes = max_bytes
        self._keep_files = keep_files
        self._file: int | None = None
        self._size = 0
        self._again_at = 0.0
        # Handlers call from threads, of several executions at once.
        self._lock = threading.Lock()

    def __call__(self, event: Delivery) -> None:
        """Append an event. Raises OSError."""
        line = _line(event.as_json())
        with self._lock:
            try:
                self._append(line)
            except OSError:
                self.lost_events += 1
                self._untold += 1
                raise

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, line: bytes) -> None:
        if time.monotonic() < self._again_at:
            raise OSError(f"{self.path}: it could not be written a moment ago")
        try:
            if self._untold:
                missing = {"type": "stream.gap", "data": {"reason": "not_written", "events": self._untold}}
                self._write(_line(missing))
                self._untold = 0
            self._write(line)
        except OSError:
            self._again_at = time.monotonic() + AGAIN_SECONDS
            self._close()
            raise

    def _write(self, line: bytes) -> None:
        file = self._open()
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
            file = self._open()
        written = 0
        try:
            written = os.write(file, line)
        finally:
            if 0 < written < len(line):
                # A disk with room for half of it.
                os.ftruncate(file, self._size)
        if written < len(line):
            raise OSError(f"{self.path}: {written} of {len(line)} bytes were written")
        self._size += len(line)

    def _open(self) -> int:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._size = os.fstat(self._file).st_size
            if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
                # A process ended in the middle of a line.
                self._size += os.write(self._file, b"\n")
        return self._file

    def _rotate(self) -> None:
        self._close()
        for number in range(self._keep_files, 0, -1):
            older = self._numbered(number)
            newer = self._numbered(number - 1) if number > 1 else self.path
            if newer.exists():
                newer.replace(older)
        if not self._keep_files:
            self.path.unlink()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(shown: dict[str, Any]) -> bytes:
    return as_line(orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE))
