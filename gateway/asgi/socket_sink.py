"""One WebSocket frame, built once, written to every viewer's transport.

What docs/decisions/0006-one-chunk-for-all.md says of HTTP chunks holds for frames: unmasked, as a server sends them,
they are the same bytes for all viewers of a message, and uvicorn would build each anew.
"""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from tailrace.gateway.asgi.stepping import Send, SteppedSend
from tailrace.gateway.wire.formats import Message

# Where a message keeps its frame once it has been built; servers pass over keys that they do not know.
_FRAME: Final = "tailrace.cli.client.frame"
# Looking an enum's member up takes longer than all the rest of a write.
_OPEN: Final = State.OPEN


class FramedSend(SteppedSend):
    """A socket whose handshake is done. Everything but an open, unpaused connection of uvicorn's is stepped."""

    __slots__ = ("_protocol",)

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        owner = getattr(send, "__self__", None)
        # An extension, as for compression, has a state of its own for each connection.
        plain = isinstance(owner, WebSocketsSansIOProtocol) and not owner.conn.extensions
        self._protocol: WebSocketsSansIOProtocol | None = owner if plain else None

    def write(self, message: Message) -> bool:
        protocol = self._protocol
        if protocol is None or protocol.conn.state is not _OPEN or protocol.disconnected:
            return super().write(message)
        if not protocol.writable.is_set():
            return super().write(message)
        frame = message.get(_FRAME)
        if frame is None:
            if message["type"] != "websocket.send":
                return super().write(message)
            frame = message[_FRAME] = _frame_of(message)
        protocol.transport.write(frame)
        return True


def _frame_of(message: Message) -> bytes:
    text = message.get("text")
    if text is not None:
        return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
    return Frame(Opcode.BINARY, message["bytes"]).serialize(mask=False)
