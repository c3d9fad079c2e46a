"""A viewer that has a response of its own: SSE and NDJSON."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tailrace.gateway.asgi.stepping import Send, SteppedSend
from tailrace.gateway.wire.formats import Message

# Where a message keeps its chunk once it has been built; servers pass over keys that they do not know.
_CHUNK = "tailrace.chunk"


class AsgiSink(SteppedSend):
    """One viewer's connection, its response already begun.

    uvicorn builds the same HTTP chunk anew for each viewer, in a coroutine each. Where its connection can be seen, is
    chunked and takes bytes, the chunk is built once and written to all; everywhere else ``send`` is stepped. See
    docs/decisions/0006-one-chunk-for-all.md.
    """

    __slots__ = ("_cycle",)

    def __init__(self, send: Send) -> None:
        super().__init__(send)
        cycle = getattr(send, "__self__", None)
        self._cycle = cycle if isinstance(cycle, RequestResponseCycle) and cycle.chunked_encoding else None

    def write(self, message: Message) -> bool:
        cycle = self._cycle
        if cycle is None or cycle.flow.write_paused or cycle.disconnected or cycle.response_complete:
            return super().write(message)
        chunk = message.get(_CHUNK)
        if chunk is None:
            body = message["body"]
            if not body or not message["more_body"]:
                return super().write(message)
            chunk = message[_CHUNK] = b"%x\r\n%b\r\n" % (len(body), body)
        cycle.transport.write(chunk)
        return True

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
