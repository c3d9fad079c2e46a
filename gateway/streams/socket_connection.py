"""A WebSocket that viewers share: answers to ops, and close codes."""

from __future__ import annotations

from typing import TypeVar

from tailrace.gateway.asgi.stepping import SteppedSend
from tailrace.gateway.hub import Hub
from tailrace.gateway.streams.close_codes import CloseCode
from tailrace.gateway.streams.shared_connection import SharedConnection, SharedSink
from tailrace.gateway.wire.formats import COMPRESSED, Format, Message

F = TypeVar("F", bound=Format)


class SocketConnection(SharedConnection[F]):
    __slots__ = ("only",)

    def __init__(self, send: SteppedSend, hub: Hub, rendering: F, *, only: str | None = None) -> None:
        """``only`` is the execution that the socket is for, when it is for one: then it ends with that."""
        super().__init__(send, hub, rendering)
        self.only = only

    def addressed(self, sink: SharedSink, message: Message) -> Message:
        return {**message, COMPRESSED: True} if sink.compress else message

    async def reply(self, message: Message) -> None:
        """Answer an op; returns when the answer is out, so that no client gets ahead of what it reads."""
        self.say(message)
        await self.replied()

    async def replied(self) -> None:
        if self._outbox.held:
            await self._replies.wait(self._outbox)

    def one_finished(self, sink: SharedSink | None = None) -> bool:
        return self.only is None or self.close_with(_goodbye(CloseCode.DONE), sink)

    def send_away(self, message: Message) -> None:
        self.end(message, CloseCode.DRAINING)

    def end(self, message: Message, code: CloseCode, reason: str = "") -> None:
        """Say why, and close well; a full connection is cut instead."""
        self.end_with(message, _goodbye(code, reason))

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close well, behind everything that has been said."""
        self.close_with(_goodbye(code, reason))


def _goodbye(code: CloseCode, reason: str = "") -> Message:
    return {"type": "websocket.close", "code": int(code), "reason": reason or code.name.lower().replace("_", " ")}
