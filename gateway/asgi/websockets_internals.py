"""All that reaches into the websockets library: how a frame looks, and what a connection of its is like."""

from __future__ import annotations

from typing import Final

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, State

from tailrace.gateway.wire.formats import Message

# Looking an enum's member up takes longer than all the rest of a write.
_OPEN: Final = State.OPEN


def is_plain(connection: Protocol) -> bool:
    """Whether its frames are the same for all: an extension, as for compression, has a state of its own for each."""
    return not connection.extensions


def is_open(connection: Protocol) -> bool:
    return connection.state is _OPEN


def forget_parser(connection: Protocol) -> None:
    """Of a connection that is lost: the generator holds it, and it the generator, some kilobytes for the collector."""
    connection.parser.close()


def frame_of(message: Message) -> bytes:
    text = message.get("text")
    if text is not None:
        return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
    return Frame(Opcode.BINARY, message["bytes"]).serialize(mask=False)


def check() -> None:
    """Raises whatever is not as it is written here."""
    if frame_of({"text": "x"}) != b"\x81\x01x" or frame_of({"bytes": b"x"}) != b"\x82\x01x":
        raise ValueError("websockets builds other frames")
