"""The streaming response, SSE or NDJSON: sse-starlette's headers, with the hub in place of its stream loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from functools import partial

from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tailrace.bus import BusError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.filter import Filter
from tailrace.gateway.access.access import Access
from tailrace.gateway.access.dismissal import dismiss
from tailrace.gateway.asgi.uvicorn_internals import AsgiSink
from tailrace.gateway.http.head import HEAD_ONLY
from tailrace.gateway.http.problems import ProblemError
from tailrace.gateway.hub import Hold, Hub, Topic, Viewer
from tailrace.gateway.presence import Kind
from tailrace.gateway.streams.deferred import SSE_TYPE, answer
from tailrace.gateway.streams.writing import AFTERWARDS, SERVER_SEND, Watching, written_to
from tailrace.gateway.wire.formats import StreamFormat


class LastingResponse(EventSourceResponse):
    """A stream that somebody else writes: headers are sse-starlette's, its stream loop gives way.

    One task per connection, which only waits for the client to leave.
    """

    def __init__(self, access: Access, media_type: str = "text/event-stream") -> None:
        super().__init__(_nothing(), headers={"Cache-Control": "no-cache, no-transform"}, media_type=media_type, ping=0)
        self.access = access

    @abstractmethod
    def begin(self, send: Send) -> Watching:
        """Get ready to write with a ``send`` that can be stepped; give what waits until the client has gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.get("state", {})
        if state.get(HEAD_ONLY):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            await self.access.enter()
        except (ProblemError, BusError) as error:
            await answer(Request(scope), error)(scope, receive, send)
            return
        if SERVER_SEND in state:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            # The request has been answered for; what waits from here on need not hold it, nor the layers around it.
            state[AFTERWARDS] = self.begin(state[SERVER_SEND])
            return
        if self.media_type != SSE_TYPE:
            # A compressing layer around us would hold back what is to be read at once; of SSE they know that.
            self.headers.setdefault("Content-Encoding", "identity")
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with written_to(self.access.gateway, receive, send, "http.disconnect") as (heard, written):
            await self.begin(written)(heard)


class HubResponse(LastingResponse):
    """Streams a topic to one viewer."""

    def __init__(
        self,
        hub: Hub,
        access: Access,
        topic: Topic,
        position: Numbering,
        *,
        rendering: StreamFormat,
        wanted: Filter | None,
        coalesce_ms: int,
        retry_ms: int,
        media_type: str = "text/event-stream",
        kind: Kind = "sse",
        tell_cursor: bool = False,
        rest: bytes = b"",
    ) -> None:
        """``tell_cursor`` gives a viewer who has none yet something to come back with, though nothing happens.

        ``rest`` are frames that it lacks of the entry at the position.
        """
        super().__init__(access, media_type)
        self._hub = hub
        self._topic = topic
        self._position = position
        self._rendering = rendering
        self._wanted = wanted
        self._coalesce_ms = coalesce_ms
        self._retry_ms = retry_ms
        self._kind = kind
        self._tell_cursor = tell_cursor
        self._rest = rest
        # The response may have to wait until the one before it on this connection has been read.
        self._hold = hub.hold(topic)

    def begin(self, send: Send) -> Watching:
        sink = AsgiSink(send)
        viewer = Viewer(sink, self._rendering, self._position, wanted=self._wanted, coalesce_ms=self._coalesce_ms)
        sink.on_drained = partial(self._topic.drained, viewer)
        cursor = self._position.cursor if self._tell_cursor else None
        opening = self._rendering.opening(self._topic.execution_id, self._retry_ms, cursor) + self._rest
        return partial(
            watch, self._hub, self._topic, viewer, self.access, kind=self._kind, opening=opening, hold=self._hold
        )


async def watch(
    hub: Hub, topic: Topic, viewer: Viewer, access: Access, receive: Receive, *, kind: Kind, opening: bytes, hold: Hold
) -> None:
    """Stay until the viewer has gone, the hub has finished it, or its credential has ended."""
    registration = access.register(kind, topic, partial(dismiss, hub, topic, viewer))
    try:
        topic.join(viewer, opening)
        hold.release()
        if hub.draining:
            # It asked on a connection that it had before.
            hub.send_away(topic, viewer)
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        hub.leave(topic, viewer)
        registration.leave()
        if isinstance(viewer.sink, AsgiSink):
            # The viewer and its socket hold each other.
            viewer.sink.forget()


async def _nothing() -> AsyncIterator[bytes]:
    """Stand in for the stream that sse-starlette would iterate; the hub writes instead."""
    frames: tuple[bytes, ...] = ()
    for frame in frames:
        yield frame
