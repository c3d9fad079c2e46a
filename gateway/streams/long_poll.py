"""Waiting for news of a log without polling it: a viewer of the hub that wants no bytes, only to be woken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.gateway.access.access import Access
from tailrace.gateway.auth.refusals import UnauthenticatedError
from tailrace.gateway.hub import Viewer
from tailrace.gateway.presence.live_connections import DISCONNECTED, ConnectionEnding
from tailrace.gateway.wire.formats import Format, Message


async def await_news(
    request: Request, access: Access, execution_id: str, after: Cursor, seconds: float | None = None
) -> bool:
    """Return as soon as the log has more than what a cursor has seen, or has ended, or the time is over.

    It is a live connection meanwhile, and counts as one. False when this gateway drains, or an operator has ended the
    waiting: the client should ask another gateway. Raises UnauthenticatedError when the credential has ended;
    BusUnavailableError; ProblemError when there are too many connections; ClientDisconnect when the client has gone.
    """
    hub = access.gateway.hub
    await access.enter()
    topic = await hub.open(execution_id, after)
    if topic is None:
        return True
    sink = WakeUpSink()
    registration = access.register("long-poll", topic, sink.end)
    viewer = Viewer(sink, WAKE_UP, Numbering.after(after))
    gone = asyncio.create_task(_gone(request), name=f"long-poll:{execution_id}")
    woken = asyncio.create_task(sink.woken.wait())
    try:
        # Nothing was awaited since the topic was opened: it is still the hub's.
        topic.join(viewer)
        if hub.draining:
            hub.send_away(topic, viewer)
        await asyncio.wait([gone, woken], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub.leave(topic, viewer)
        registration.leave()
        gone.cancel()
        woken.cancel()
    if gone.done() and not sink.woken.is_set():
        raise ClientDisconnect
    if sink.ending is not None and sink.ending is not DISCONNECTED:
        raise UnauthenticatedError(sink.ending.code, sink.ending.detail)
    return not (sink.sent_away or sink.ending)


async def follow_by_news(
    request: Request, access: Access, execution_id: str, after: Cursor
) -> AsyncGenerator[Entry | Gap, None]:
    """Give the log after a cursor until it ends, or until the client should ask another gateway.

    It is a live connection while there is nothing new. Raises what ``await_news`` does.
    """
    position = Numbering.after(after)
    while True:
        page = await access.gateway.bus.log.read(execution_id, position)
        position = page.position
        for item in page.items:
            yield item
        if page.ended:
            return
        if not page.more and not await await_news(request, access, execution_id, position.cursor):
            return


class WakeUpSink:
    """A viewer's socket that is never full: whatever is written to it wakes the waiting request."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.sent_away = False
        self.ending: ConnectionEnding | None = None

    def end(self, ending: ConnectionEnding) -> None:
        self.ending = ending
        self.woken.set()

    def write(self, message: Message) -> bool:
        del message
        self.woken.set()
        return True

    def finish(self, message: Message) -> bool:
        return self.write(message)

    def unsent_bytes(self) -> int:
        return 0

    def send_away(self, message: Message) -> None:
        self.sent_away = True
        self.write(message)

    def cut(self) -> None:
        # The log was deleted, or the gateway ends: what there is now, a look at the log tells.
        self.woken.set()


class WakeUpFormat(Format):
    """Entries and gaps wake the waiting request; the state of the stream does not."""

    name = "wake-up"
    heartbeat = b""

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        del execution_id, entry
        return b"!"

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        del execution_id, cursor
        return b""

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        del payload
        return b"" if name in _NOT_WAKING else b"!"

    def message(self, frames: bytes) -> Message:
        return {"frames": frames}


_NOT_WAKING: Final = frozenset({"stream.open", "stream.caught_up"})
WAKE_UP: Final = WakeUpFormat()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
