"""A document's bytes behind a descriptor: of a file below the folders that the operator named, or as submitted."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tailrace.workers.builtin.document.errors import (
    DocumentEmptyError,
    DocumentForbiddenError,
    DocumentMissingError,
    DocumentNotAFileError,
    DocumentTooLargeError,
    DocumentUnreadableError,
)

MAX_BYTES = 50_000_000

# What is asked for is allocated, whatever there is.
_PART_BYTES = 1 << 22

_BENEATH = os.O_DIRECTORY | os.O_NOFOLLOW | getattr(os, "O_PATH", os.O_RDONLY)


@dataclass(frozen=True, slots=True)
class Source:
    """`name` is the file as the user gave it, for its suffix and for messages."""

    name: str
    descriptor: int


@contextlib.contextmanager
def opened(path: str, roots: Sequence[Path], *, max_bytes: int = MAX_BYTES) -> Iterator[Source]:
    """The regular file at `path`, if it is really in one of `roots`: links and `..` are followed before that is judged.

    Blocks, as files do: call it in a thread. Raises a `DocumentError`; what is outside of `roots` is refused alike
    whether it exists or not.
    """
    descriptor = _open(path, roots)
    try:
        _check(path, os.fstat(descriptor), max_bytes)
        yield Source(path, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def given_by_value(content: bytes, name: str) -> Iterator[Source]:
    """What was submitted itself, as if it were a file."""
    with Kept() as kept:
        write(kept.descriptor, content)
        yield Source(name, kept.descriptor)


class Kept:
    """A file without a path, gone with this object: for what is too large for the worker's own memory."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            # Needs no disk: a container's may be read-only.
            self.descriptor = os.memfd_create("tailrace-document")
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    # Lives as long as an attempt's memory, whose end nothing announces.
    __del__ = close


def write(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, memoryview(content)[written:], written)


def contents(descriptor: int, name: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """All of it, from any process that holds the descriptor: others may read it at the same time.

    Raises a `DocumentError`.
    """
    parts: list[bytes] = []
    size = 0
    try:
        # One byte more than allowed: a file may grow while it is read.
        while size <= max_bytes and (part := os.pread(descriptor, min(_PART_BYTES, max_bytes + 1 - size), size)):
            parts.append(part)
            size += len(part)
    except OSError as error:
        raise DocumentUnreadableError(name, error.strerror or "unknown error") from error
    if size > max_bytes:
        raise DocumentTooLargeError(name, size=size, limit=max_bytes, unit="bytes")
    if not size:
        raise DocumentEmptyError(name)
    return b"".join(parts)


def _open(path: str, roots: Sequence[Path]) -> int:
    try:
        real = Path(os.path.realpath(path))
        for root in roots:
            real_root = Path(os.path.realpath(root))
            if real.is_relative_to(real_root):
                return _open_beneath(real_root, real.relative_to(real_root).parts)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DocumentMissingError(path) from error
    except _NotRegularError as error:
        raise DocumentNotAFileError(path, is_directory=error.is_directory) from error
    except OSError as error:
        raise DocumentUnreadableError(path, error.strerror or "unknown error") from error
    except ValueError as error:  # a NUL, or half a surrogate pair
        raise DocumentMissingError(path) from error
    raise DocumentForbiddenError(path, is_off=not roots)


def _open_beneath(root: Path, parts: tuple[str, ...]) -> int:
    """Follows no link: the path had none left when it was judged, so one that is there now was put there since."""
    if not parts:
        raise _NotRegularError(is_directory=True)
    folder = os.open(root, _BENEATH)
    try:
        for part in parts[:-1]:
            below = os.open(part, _BENEATH, dir_fd=folder)
            os.close(folder)
            folder = below
        # Looked at before it is opened: opening a device may do something, and opening a pipe waits for a writer.
        mode = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not stat.S_ISREG(mode):
            raise _NotRegularError(is_directory=stat.S_ISDIR(mode))
        return os.open(parts[-1], os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY, dir_fd=folder)
    finally:
        os.close(folder)


def _check(path: str, status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise DocumentNotAFileError(path, is_directory=stat.S_ISDIR(status.st_mode))
    if status.st_size > max_bytes:
        raise DocumentTooLargeError(path, size=status.st_size, limit=max_bytes, unit="bytes")
    if not status.st_size:
        # Files of /proc say so too; what they hold is not for readers of documents.
        raise DocumentEmptyError(path)


class _NotRegularError(Exception):
    def __init__(self, *, is_directory: bool) -> None:
        super().__init__()
        self.is_directory = is_directory
