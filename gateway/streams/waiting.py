"""A viewer that comes before its execution: the stream is open, and says so, until there is something to see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from starlette.types import Receive, Send

from tailrace.bus.errors import BusUnavailableError, ExecutionUnknownError, InvalidInputError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START
from tailrace.gateway.access.access import Access
from tailrace.gateway.asgi.uvicorn_internals import AsgiSink
from tailrace.gateway.auth.refusals import UnauthenticatedError
from tailrace.gateway.errors import GatewayError
from tailrace.gateway.http.problems import Problem, ProblemError
from tailrace.gateway.hub import Hold, Hub, Topic, Viewer
from tailrace.gateway.presence import Kind
from tailrace.gateway.streams.asked import Asked
from tailrace.gateway.streams.long_poll import WAKE_UP, WakeUpSink
from tailrace.gateway.streams.response import LastingResponse, watch
from tailrace.gateway.streams.writing import Watching

MAX_WAIT_FOR_START: Final = 300.0
_RETRY_SECONDS: Final = 1.0


def check_wait(given: float | str | None) -> float:
    """Seconds to wait for an execution to begin. Raises InvalidInputError."""
    try:
        seconds = float(given or 0.0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_FOR_START:
        raise InvalidInputError("wait_for_start", f"{str(given)[:32]!r} is not from 0 to {MAX_WAIT_FOR_START:g}")
    return seconds


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
            found = await self._begun(sink, gone)
            if found is None:
                await gone
                return
            topic, hold = found
            cursor = asked.cursor
            position = Numbering.after(topic.head if cursor is None else cursor)
            viewer = Viewer(sink, asked.rendering, position, wanted=asked.wanted, coalesce_ms=asked.coalesce_ms)
            sink.on_drained = partial(topic.drained, viewer)

            async def heard() -> dict[str, Any]:
                await gone
                return {"type": "http.disconnect"}

            await watch(hub, topic, viewer, self.access, heard, kind=asked.kind, opening=b"", hold=hold)
        finally:
            gone.cancel()

    async def _begun(self, sink: AsgiSink, gone: asyncio.Task[None]) -> tuple[Topic, Hold] | None:
        """The topic once there is something to see; None when it is over, and that has been said."""
        asked, rendering = self._asked, self._asked.rendering
        beginning = asyncio.create_task(
            begun(self._hub, self.access, asked.execution_id, asked.wait_for_start, registered_as=asked.kind)
        )
        beat = rendering.opening(asked.execution_id, self._retry_ms, None) + rendering.heartbeat
        try:
            while not (gone.done() or beginning.done()):
                if beat and not sink.write(rendering.message(beat)):
                    # It takes not even a few bytes.
                    sink.cut()
                    return None
                beat = rendering.heartbeat
                seconds = self._hub.limits.heartbeat_seconds
                await asyncio.wait([gone, beginning], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return beginning.result() if beginning.done() else None
        except SentAwayError:
            frames = rendering.control("stream.reconnect", {"retry_ms": self._retry_ms})
        except ProblemError as error:
            told = {"code": error.problem.code, "detail": error.problem.detail, "execution_id": asked.execution_id}
            frames = rendering.control("stream.error", told)
        finally:
            beginning.cancel()
        sink.send_away(rendering.message(frames))
        return None


class SentAwayError(GatewayError):
    """Whoever waits is to come back to another gateway."""


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, None], failed: Callable[[], object]) -> AsyncGenerator[None, None]:
    """Do something beside the body, no longer than that; what it raises is told at once, and raised behind the body."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: None if done.cancelled() or done.exception() is None else failed())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def open_or_begun(hub: Hub, access: Access, execution_id: str, wait_seconds: float) -> tuple[Topic, Hold]:
    """What is there, or comes within so many seconds. Raises as ``begun`` and ``Hub.open`` do."""
    try:
        topic = await hub.open(execution_id, allows=access.allows(execution_id))
    except ExecutionUnknownError:
        if not wait_seconds:
            raise
        return await begun(hub, access, execution_id, wait_seconds)
    return topic, hub.hold(topic)


async def begun(
    hub: Hub, access: Access, execution_id: str, seconds: float, *, registered_as: Kind | None = None
) -> tuple[Topic, Hold]:
    """Wait until an execution that is not there begins, with one watch for all who wait for it; and open it.

    It is a live connection meanwhile, where it is none yet. Raises ProblemError when it has not begun in time, or the
    credential has ended; SentAwayError when this gateway drains.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    waiting = hub.unbegun(execution_id)
    woken = WakeUpSink()
    viewer = Viewer(woken, WAKE_UP, Numbering.after(START))
    registration = None if registered_as is None else access.register(registered_as, waiting, woken.end)
    waiting.join(viewer)
    if hub.draining:
        hub.send_away(waiting, viewer)
    try:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await woken.woken.wait()
            if woken.ending is not None:
                raise UnauthenticatedError(woken.ending.code, woken.ending.detail)
            if woken.sent_away:
                raise SentAwayError
            if woken.woken.is_set():
                woken.woken.clear()
                try:
                    topic = await hub.open(execution_id, allows=access.allows(execution_id))
                except (ExecutionUnknownError, BusUnavailableError):
                    # What it may not see has begun, or there is nothing yet after all.
                    await asyncio.sleep(min(_RETRY_SECONDS, max(0.0, until - loop.time())))
                else:
                    return topic, hub.hold(topic)
            if loop.time() >= until:
                detail = f"execution {execution_id} has not begun within {seconds:g} s"
                raise ProblemError(Problem(404, "execution_unknown", detail, "execution"))
    finally:
        hub.leave(waiting, viewer)
        if registration is not None:
            registration.leave()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
