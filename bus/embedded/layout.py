"""Where an embedded server keeps what, and that it is for its user alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from tailrace.bus.errors import EmbeddedServerError, InvalidInputError

# sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included; see unix(7).
MAX_SOCKET_PATH_BYTES: Final = 103

SCHEME: Final = "embedded://"


@dataclass(frozen=True)
class Layout:
    """The files in a server's directory. The lock files stay for ever: removing one would split its lock."""

    directory: Path

    @property
    def server_lock(self) -> Path:
        return self.directory / "server.lock"

    @property
    def users(self) -> Path:
        return self.directory / "users.lock"

    @property
    def address(self) -> Path:
        return self.directory / "server.json"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def append_only_directory(self) -> Path:
        """Named so by the server."""
        return self.directory / "appendonlydir"

    def close_to_others(self) -> None:
        """For this user alone, also where an older version left it open to all. Raises OSError."""
        ours = (self.server_lock, self.users, self.address, self.log, self.append_only_directory)
        for path in (*ours, *self.append_only_directory.glob("*")):
            with contextlib.suppress(FileNotFoundError):
                mode = stat.S_IMODE(path.stat().st_mode)
                if mode & 0o077:
                    path.chmod(mode & 0o700)

    def choose_socket(self) -> Path:
        """In the directory, or where that is too long for a socket in a private folder with a short name.

        The same directory gives the same socket again, so that clients find a restarted server.
        Raises EmbeddedServerError when no place is short enough.
        """
        inside = self.directory / "server.sock"
        if _fits(inside):
            return inside
        name = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16] + ".sock"
        for folder in _short_folders():
            if _fits(folder / name) and _is_private(folder):
                return folder / name
        raise EmbeddedServerError(
            f"no place for the socket of {self.directory}: its path is longer than the "
            f"{MAX_SOCKET_PATH_BYTES} bytes a unix socket may have and no temporary folder is short enough; "
            "use a shorter path, or set TMPDIR to a short one"
        )

    def command(self, binary: Path, socket: Path, *, persistent: bool) -> tuple[str, ...]:
        return (
            str(binary),
            *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
            *("--protected-mode", "yes", "--daemonize", "no"),
            *("--dir", str(self.directory)),
            *("--save", "", "--appendonly", "yes" if persistent else "no", "--appendfsync", "everysec"),
            # What is in a log may only leave it by the log's own retention.
            *("--maxmemory-policy", "noeviction"),
        )


def socket_url(socket: str) -> str:
    """As redis-py's from_url reads it: it unquotes the path."""
    return f"unix://{quote(socket)}"


def embedded_path(url: str) -> str | None:
    """What `start_embedded` takes.

    `embedded://` gives None, `embedded:///srv/bus` an absolute path, `embedded://data/bus` a relative one.
    Percent-encoding is decoded. Raises InvalidInputError.
    """
    if not url.startswith(SCHEME):
        raise InvalidInputError("url", f"must start with {SCHEME}")
    path = url.removeprefix(SCHEME)
    if "?" in path or "#" in path:
        raise InvalidInputError("url", f"{SCHEME} takes a path and nothing else; write ? as %3F and # as %23")
    return unquote(path) or None


def _fits(socket: Path) -> bool:
    return len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES


def _short_folders() -> Iterator[Path]:
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - made private
        if base:
            yield Path(base) / f"tailrace-{os.geteuid()}"


def _is_private(folder: Path) -> bool:
    """Make the folder ours alone; False if it belongs to another user, who could listen in our place."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o077
    return False
