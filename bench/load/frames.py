"""As much of WebSocket (RFC 6455) as a measuring client needs: masked out, unmasked in. Pure.

The masking key is zero: legal, and free. Extensions are never offered, so frames are plain.
"""

from __future__ import annotations

import struct
from typing import Final

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_ZERO_KEY: Final = bytes(4)


def upgrade(host: str, path: str, subprotocol: str, headers: dict[str, str]) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def masked(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
    return head + _ZERO_KEY + payload


class Unframer:
    """Takes received bytes, gives the payload bytes of data frames, and answers what has to be answered."""

    __slots__ = ("_held", "closed")

    def __init__(self) -> None:
        self._held = b""
        self.closed = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return (payloads of complete data frames joined, bytes to send back)."""
        if self._held:
            data = self._held + data
        payloads = []
        answer = b""
        at = 0
        size = len(data)
        while size - at >= 2:
            opcode = data[at] & 0x0F
            length = data[at + 1] & 0x7F
            start = at + 2
            if length == 126:
                start += 2
                if size < start:
                    break
                length = int.from_bytes(data[at + 2 : start], "big")
            elif length == 127:
                start += 8
                if size < start:
                    break
                length = int.from_bytes(data[at + 2 : start], "big")
            if size < start + length:
                break
            payload = data[start : start + length]
            at = start + length
            if opcode < CLOSE:
                payloads.append(payload)
            elif opcode == PING:
                answer += masked(PONG, payload)
            elif opcode == CLOSE:
                self.closed = True
                answer += masked(CLOSE, payload)
        self._held = data[at:]
        return (payloads[0] if len(payloads) == 1 else b"".join(payloads)), answer
