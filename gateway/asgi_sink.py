"""A viewer that has a response of its own: SSE and NDJSON."""

from __future__ import annotations

from gateway.render import Message
from gateway.stepping import SteppedSend


class AsgiSink(SteppedSend):
    """One viewer's connection."""

    __slots__ = ()

    def finish(self, message: Message) -> None:
        if self.write(message):
            self._close()
        else:
            self.on_drained = self._close

    def send_away(self, message: Message) -> None:
        self.finish(message)

    def cut(self) -> None:
        self.abort()

    def _close(self) -> None:
        self.on_drained = None
        self.write({"type": "http.response.body", "body": b"", "more_body": False})
