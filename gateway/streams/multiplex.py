"""One SSE response and the viewers that share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tailrace.gateway.asgi.stepping import Send, SteppedSend
from tailrace.gateway.hub import Hub
from tailrace.gateway.streams.shared_connection import SharedConnection, SharedSink
from tailrace.gateway.wire.cursors import Cursors
from tailrace.gateway.wire.formats import Message
from tailrace.gateway.wire.multiplex import MultiplexFormat, with_ids

# Each execution's viewer says that it lives; one of them is enough for the connection that they share.
_BEATS_APART: Final = 0.5
# Where a message says which of the cursors its pieces move.
INDEX: Final = "tailrace.index"


class MultiplexSend(SteppedSend):
    """Gives frames their ids as they are written."""

    __slots__ = ("_beat_due", "_cursors", "_heartbeat", "_heartbeat_seconds", "_now")

    def __init__(
        self, send: Send, cursors: Cursors, *, heartbeat: bytes, heartbeat_seconds: float, now: Callable[[], float]
    ) -> None:
        super().__init__(send)
        self._cursors = cursors
        self._heartbeat = heartbeat
        self._heartbeat_seconds = heartbeat_seconds
        self._now = now
        self._beat_due = 0.0

    def write(self, message: Message) -> bool:
        pieces = message["body"]
        now = self._now()
        if pieces == self._heartbeat and now < self._beat_due:
            return True
        self._beat_due = now + self._heartbeat_seconds * _BEATS_APART
        body = with_ids(pieces, message.get(INDEX, 0), self._cursors)
        return super().write({"type": message["type"], "body": body, "more_body": message["more_body"]})


class MultiplexConnection(SharedConnection[MultiplexFormat]):
    """Ends when the last of its executions has ended."""

    __slots__ = ("_indexes", "_opening")

    def __init__(self, send: MultiplexSend, hub: Hub, rendering: MultiplexFormat, executions: Sequence[str]) -> None:
        super().__init__(send, hub, rendering)
        self._indexes = {execution_id: index for index, execution_id in enumerate(executions)}
        # While subscriptions are made one by one, none of them is the last.
        self._opening = True

    def addressed(self, sink: SharedSink, message: Message) -> Message:
        return {**message, INDEX: self._indexes[sink.topic.execution_id]}

    def opened(self) -> None:
        """All subscriptions were made."""
        self._opening = False
        self.one_finished()

    def send_all_away(self) -> None:
        """They come back elsewhere, together."""
        for sink in list(self.subscriptions.values())[:1]:
            self._hub.send_away(sink.topic, sink.viewer)

    def one_finished(self, sink: SharedSink | None = None) -> bool:
        return self._opening or bool(self.subscriptions) or self.close_with(_end(), sink)

    def send_away(self, message: Message) -> None:
        self.end(message)

    def end(self, message: Message) -> None:
        """Say why, and end the response; a full connection is cut instead."""
        self.end_with(message, _end())


def _end() -> Message:
    return {"type": "http.response.body", "body": b"", "more_body": False}
