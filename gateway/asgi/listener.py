"""The listening socket, bound before anything else, so that a port in use is one clear sentence."""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
import sys
from typing import Final

from tailrace.gateway.errors import GatewayError

VANISHED_SECONDS: Final = 60.0
BACKLOG: Final = 4096
# What lies in the kernel cannot be overtaken: a slow reader of a long backlog would get everything else behind it.
UNSENT_BYTES: Final = 128 * 1024
SPARE_FILES: Final = 64


class ListenError(GatewayError):
    """The address cannot be listened on; the message is one sentence with its cure."""


def bind(host: str, port: int, *, vanished_seconds: float = VANISHED_SECONDS, shared: bool = False) -> socket.socket:
    """Bind, without listening yet: who connects too early is refused rather than left waiting.

    ``shared`` with other processes of this user: Linux deals connections to all that listen there. Raises ListenError.
    """
    shown = f"{host}:{port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ListenError(f"cannot listen on {shown}: {error.strerror or error}") from None
    # Named, and not 0 as usual: asyncio sets TCP_NODELAY only on sockets that say they are TCP, and without it every
    # second small write waits 40 ms for the peer's delayed acknowledgement.
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        tune(listener, vanished_seconds)
    except OSError as error:
        listener.close()
        raise ListenError(_explain(error, shown)) from None
    return listener


def tune(listener: socket.socket, vanished_seconds: float) -> None:
    """What accepted connections inherit."""
    # A viewer that vanished without a word is given up when what was written to it has not been acknowledged for so
    # long, not when the kernel stops sending it again (15 minutes).
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(vanished_seconds * 1000))
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def listen(listener: socket.socket) -> None:
    """Raises ListenError: two that bound the same port at the same time find out here."""
    shown = "{}:{}".format(*listener.getsockname()[:2])
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        raise ListenError(_explain(error, shown)) from None


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def raise_file_limit() -> int:
    """As many connections as the system allows this process; where that cannot be had, as many as there are."""
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def room_for_streams(files: int) -> int:
    """How many streams fit into so many open files, with some left for Redis and for requests that are no streams."""
    return max(1, files - max(SPARE_FILES, files // 8))


def _explain(error: OSError, shown: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"cannot listen on {shown}: the port is in use; choose another with --port or TAILRACE_PORT"
        case errno.EACCES:
            return f"cannot listen on {shown}: permission denied; ports below 1024 need rights, choose a higher one"
        case _:
            return f"cannot listen on {shown}: {error.strerror or error}"
