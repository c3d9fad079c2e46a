"""What went wrong and what to do about it, in one sentence. Pure."""

from __future__ import annotations

import errno
import re
import shlex
from pathlib import Path
from typing import Final

from tailrace.bus.embedded.layout import Layout

# Below this the server cannot even begin its first file.
FULL_DISK_BYTES: Final = 256 * 1024

_NO_SPACE: Final = "No space left on device"
_BROKEN_FILE: Final = re.compile(r"(?:Bad file format|Unexpected end of file) reading the append only file ([^\s:]+)")
_BROKEN_MANIFEST: Final = re.compile(r"Invalid AOF manifest file format|reading the manifest file")
_MISSING_FILE: Final = re.compile(r"(?:AOF file |append log file )(\S+) (?:length\. stat: No such|doesn't exist)")
_NOT_WRITABLE: Final = re.compile(r"Permission denied|Read-only file system")
_LOG_PREFIX: Final = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ [*#.-] ")


def explain_os_error(error: OSError, layout: Layout) -> str:
    """For what the operating system refused while we opened the directory and its lock files."""
    directory = layout.directory
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"{directory} is not writable for this user; change its owner or choose another directory"
        case errno.ENOTDIR | errno.EEXIST:
            return f"{directory} is not a directory, or lies beneath a file; choose another path"
        case errno.ENOSPC | errno.EDQUOT:
            return _full_disk(directory)
        case errno.ENOLCK | errno.EOPNOTSUPP:
            return f"the file system of {directory} has no file locks (flock); choose one on a local disk"
        case _:
            return f"cannot use {directory}: {error.strerror or error}; choose another directory"


def explain_exit(exit_code: int | None, log: list[str], *, layout: Layout, binary: Path, free_bytes: int) -> str:
    """For a server that ended before it was ready. `log` is the end of its log, `free_bytes` of its disk."""
    text = "\n".join(log)
    directory = layout.directory
    # A full disk swallows the log as well: an empty log on one is evidence enough.
    if _NO_SPACE in text or free_bytes < FULL_DISK_BYTES:
        return _full_disk(directory)
    if broken := _BROKEN_FILE.search(text):
        return _broken(layout.append_only_directory / broken[1], binary)
    if missing := _MISSING_FILE.search(text):
        return (
            f"{layout.append_only_directory / missing[1]} is missing, so the data would be incomplete; "
            f"restore it from a backup, or move {layout.append_only_directory} away to start empty"
        )
    if _BROKEN_MANIFEST.search(text):
        return (
            f"the append-only log's manifest in {layout.append_only_directory} is corrupt; "
            "restore it from a backup, or move that directory away to start empty"
        )
    if _NOT_WRITABLE.search(text):
        return f"{directory} is not writable for this user; change its owner or choose another directory"
    said = _last_words(log)
    return (
        f"the embedded server of {directory} ended at its start with exit code {exit_code}; "
        f"it said: {said or 'nothing'}"
    )


def explain_timeout(timeout_seconds: float, log: list[str], layout: Layout) -> str:
    return (
        f"the embedded server of {layout.directory} was not ready within {timeout_seconds:g} s; "
        "on a busy machine, allow more with start_timeout_seconds; "
        f"it last said: {_last_words(log[-1:]) or 'nothing'}"
    )


def _broken(file: Path, binary: Path) -> str:
    if file.suffix == ".rdb":  # the snapshot that the log starts from, which no tool repairs
        return f"{file} is corrupt; restore it from a backup, or move {file.parent} away to start empty"
    # The server is its own checking tool when called by that tool's name. It gets the file, not the manifest:
    # in Valkey 9.1.2 it takes every base file for corrupt, not knowing its new magic word.
    check = f"exec -a valkey-check-aof {shlex.quote(str(binary))} --fix {shlex.quote(str(file))}"
    return (
        f"{file} is corrupt; make a copy of {file.parent}, then cut the log off where it is corrupt with: "
        f"bash -c {shlex.quote(check)}"
    )


def _full_disk(directory: Path) -> str:
    return f"the disk of {directory} is full; free some space and start again"


def _last_words(log: list[str]) -> str:
    return " / ".join(words for line in log[-5:] if (words := _LOG_PREFIX.sub("", line).strip()))
