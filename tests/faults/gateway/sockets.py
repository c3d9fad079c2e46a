"""How many connections a process holds, and how to vanish without a word."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from pathlib import Path

_SO_ATTACH_FILTER = 26
_RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)


def connections(pid: int) -> int:
    """Sockets of all kinds; the listener, Redis and the loop's own among them."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += "socket:" in str(link.readlink())
    return count


def vanish(connection: socket.socket) -> None:
    """Have the kernel drop whatever comes for it from now on, unread and unacknowledged, as a dead host would.

    The filter is classic BPF: one instruction that accepts no byte (socket(7), SO_ATTACH_FILTER).
    """
    program = ctypes.create_string_buffer(_RETURN_NOTHING, len(_RETURN_NOTHING))
    given = struct.pack("HL", 1, ctypes.addressof(program))
    connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, given)
