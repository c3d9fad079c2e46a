"""A viewer that comes before its execution: the stream is open, and says so, until there is something to see."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

from starlette.types import Receive, Send

from tailrace.bus.errors import BusUnavailableError, ExecutionUnknownError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START
from tailrace.gateway.access.access import Access
from tailrace.gateway.asgi.uvicorn_internals import AsgiSink
from tailrace.gateway.hub import Hub, Topic, Viewer
from tailrace.gateway.streams.asked import Asked
from tailrace.gateway.streams.long_poll import WAKE_UP, WakeUpSink
from tailrace.gateway.streams.response import LastingResponse, watch
from tailrace.gateway.streams.writing import Watching

MAX_WAIT_FOR_START: Final = 300.0
_RETRY_SECONDS: Final = 1.0


class WaitingResponse(LastingResponse):
    """Waits with one watch for all who wait for an execution, and with a comment now and then.

    Who may not see the execution waits as if it had not begun.
    """

    def __init__(self, hub: Hub, access: Access, asked: Asked, retry_ms: int) -> None:
        super().__init__(access, asked.media_type)
        self._hub = hub
        self._asked = asked
        self._retry_ms = retry_ms

    def begin(self, send: Send) -> Watching:
        return partial(self._watch, AsgiSink(send))

    async def _watch(self, sink: AsgiSink, receive: Receive) -> None:
        asked, hub = self._asked, self._hub
        gone = asyncio.create_task(_gone(receive), name=f"waiting:{asked.execution_id}")
        try:
            topic = await self._begun(sink, gone)
            if topic is None:
                await gone
                return
            cursor = asked.cursor
            position = Numbering.after(topic.head if cursor is None else cursor)
            viewer = Viewer(sink, asked.rendering, position, wanted=asked.wanted, coalesce_ms=asked.coalesce_ms)
            sink.on_drained = partial(topic.drained, viewer)

            async def heard() -> dict[str, Any]:
                await gone
                return {"type": "http.disconnect"}

            # Nothing was awaited since the topic was opened: it is still the hub's.
            await watch(hub, topic, viewer, self.access, heard, kind=asked.kind, opening=b"", hold=hub.hold(topic))
        finally:
            gone.cancel()

    async def _begun(self, sink: AsgiSink, gone: asyncio.Task[None]) -> Topic | None:
        """The topic once there is something to see; None when it is over, and that has been said."""
        asked, hub, rendering = self._asked, self._hub, self._asked.rendering
        loop = asyncio.get_running_loop()
        until = loop.time() + asked.wait_for_start
        waiting = hub.unbegun(asked.execution_id)
        woken = WakeUpSink()
        viewer = Viewer(woken, WAKE_UP, Numbering.after(START))
        registration = self.access.register(asked.kind, waiting, woken.end)
        waiting.join(viewer)
        if hub.draining:
            hub.send_away(waiting, viewer)
        beat = rendering.opening(asked.execution_id, self._retry_ms, None) + rendering.heartbeat
        news: asyncio.Task[Any] | None = None
        try:
            while not gone.done():
                if beat and not sink.write(rendering.message(beat)):
                    # It takes not even a few bytes.
                    sink.cut()
                    return None
                beat = rendering.heartbeat
                news = news or asyncio.create_task(woken.woken.wait())
                left = min(hub.limits.heartbeat_seconds, until - loop.time())
                await asyncio.wait([gone, news], timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
                if woken.ending is not None:
                    self._end(sink, woken.ending.code, woken.ending.detail)
                    return None
                if woken.sent_away:
                    retry = {"retry_ms": self._retry_ms}
                    sink.send_away(rendering.message(rendering.control("stream.reconnect", retry)))
                    return None
                if news.done():
                    found, news = await self._open(), None
                    if found is not None:
                        return found
                    # What it may not see has begun, or there is nothing yet after all.
                    woken.woken.clear()
                    await asyncio.wait([gone], timeout=min(_RETRY_SECONDS, max(0.0, until - loop.time())))
                    beat = b""
                if loop.time() >= until:
                    detail = f"execution {asked.execution_id} has not begun within {asked.wait_for_start:g} s"
                    self._end(sink, "execution_unknown", detail)
                    return None
        finally:
            if news is not None:
                news.cancel()
            hub.leave(waiting, viewer)
            registration.leave()
        return None

    async def _open(self) -> Topic | None:
        asked = self._asked
        try:
            return await self._hub.open(asked.execution_id, allows=self.access.allows(asked.execution_id))
        except (ExecutionUnknownError, BusUnavailableError):
            return None

    def _end(self, sink: AsgiSink, code: str, detail: str) -> None:
        rendering = self._asked.rendering
        payload = {"code": code, "detail": detail, "execution_id": self._asked.execution_id}
        sink.finish(rendering.message(rendering.control("stream.error", payload)))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
