"""Advisory file locks (flock): they end with their holder, however it ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import BinaryIO, Final, Self

POLL_SECONDS: Final = 0.02


class FileLock:
    """One use of a server: a shared lock on the file that its supervisor watches."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._owner_pid = os.getpid()

    @classmethod
    async def acquire(cls, path: Path) -> Self:
        """Wait as long as a server there is stopping. Raises OSError when the file system has no locks."""
        file = _open(path)
        try:
            while not _lock(file, fcntl.LOCK_SH):  # noqa: ASYNC110 - another process's lock sets no Event
                await asyncio.sleep(POLL_SECONDS)
        except BaseException:
            file.close()
            raise
        return cls(file)

    def release(self) -> None:
        # A forked child shares the open file: it lets go of its own copy without unlocking its parent's.
        if not self._file.closed and os.getpid() == self._owner_pid:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()


def try_exclusive(path: Path) -> BinaryIO | None:
    """The open file, locked until it and all inherited copies are closed; None if it is taken."""
    file = _open(path)
    try:
        locked = _lock(file, fcntl.LOCK_EX)
    except BaseException:
        file.close()
        raise
    if locked:
        return file
    file.close()
    return None


def is_taken(path: Path) -> bool:
    """Whether a process holds the lock exclusively. Does not create the file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        return not _lock(file, fcntl.LOCK_SH)


def _open(path: Path) -> BinaryIO:
    # Who may open it may lock it, and keep us out.
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))


def _lock(file: BinaryIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
