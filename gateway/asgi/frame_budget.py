"""How many WebSocket frames a client may send, and how many of them are read at a time.

Six bytes are a frame, and reading one costs 50 µs whatever it carries: a megabyte of them would hold up everybody for
ten seconds. So a few frames of one connection are read in a turn, and a client that floods is closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from tailrace.gateway.errors import GatewayError

FRAMES_PER_SECOND: Final = 200.0
FRAMES_BURST: Final = 2000
FRAMES_A_TURN: Final = 16
# Of one message: empty ones would never reach the limit of its size.
MAX_FRAGMENTS: Final = 1024

_LENGTH_BYTES: Final = {126: 2, 127: 8}


class FloodError(GatewayError):
    """A client sends more frames than it may."""


def check_fragments(count: int) -> None:
    """Raises FloodError."""
    if count > MAX_FRAGMENTS:
        raise FloodError(f"more than {MAX_FRAGMENTS} fragments of a message")


class FrameBudget:
    """Of one connection. ``unread`` is what it has sent and was not given out yet, ``pongs`` what it did not take."""

    __slots__ = ("_allowed", "_counted_at", "_header", "_payload_left", "pongs", "unread")

    def __init__(self, now: float) -> None:
        self.unread = b""
        self.pongs: list[bytes] = []
        self._allowed = float(FRAMES_BURST)
        self._counted_at = now
        # Of a frame that has arrived in part.
        self._header = b""
        self._payload_left = 0

    def next_turn(self, now: float) -> bytes:
        """Take the next few frames, or the part of them that is there. Raises FloodError."""
        data, position, frames = self.unread, 0, 0
        while position < len(data) and (self._payload_left or frames < FRAMES_A_TURN):
            if self._payload_left:
                step = min(self._payload_left, len(data) - position)
                self._payload_left -= step
                position += step
                continue
            wanted = _header_bytes(self._header) - len(self._header)
            self._header += data[position : position + wanted]
            position += wanted
            if len(self._header) == _header_bytes(self._header):
                self._payload_left = _payload_bytes(self._header)
                self._header = b""
                frames += 1
        self._spend(frames, now)
        self.unread = data[position:]
        return data[:position]

    def _spend(self, frames: int, now: float) -> None:
        self._allowed = min(FRAMES_BURST, self._allowed + (now - self._counted_at) * FRAMES_PER_SECOND) - frames
        self._counted_at = now
        if self._allowed < 0:
            raise FloodError(f"more than {FRAMES_PER_SECOND:g} frames a second, {FRAMES_BURST} at once")


def _header_bytes(header: bytes) -> int:
    """How many bytes the header has of which so much is known (RFC 6455, section 5.2)."""
    if len(header) < 2:  # noqa: PLR2004 - the flags, and the length's first byte
        return 2
    return 2 + _LENGTH_BYTES.get(header[1] & 0x7F, 0) + (4 if header[1] & 0x80 else 0)


def _payload_bytes(header: bytes) -> int:
    length = header[1] & 0x7F
    return int.from_bytes(header[2 : 2 + _LENGTH_BYTES[length]], "big") if length in _LENGTH_BYTES else length


class Reader(Protocol):
    """A connection of which something is unread."""

    def read_turn(self) -> None: ...


class ReadingTurns:
    """All connections of which something is unread. Each turn of the event loop reads on in one of them."""

    def __init__(self) -> None:
        self._waiting: deque[Reader] = deque()
        self._is_scheduled = False

    def wait(self, reader: Reader) -> None:
        if reader not in self._waiting:
            self._waiting.append(reader)
        self._schedule()

    def forget(self, reader: Reader) -> None:
        if self._waiting and reader in self._waiting:
            self._waiting.remove(reader)

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._read_one)

    def _read_one(self) -> None:
        self._is_scheduled = False
        if self._waiting:
            try:
                self._waiting.popleft().read_turn()
            finally:
                self._schedule()
