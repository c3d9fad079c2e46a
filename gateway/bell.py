"""Waiting for news of a log without polling it: a viewer of the hub that wants no bytes, only to be rung."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect, Request

from bus.continuity import Numbering
from bus.cursor import Cursor
from bus.entry import Entry
from gateway.hub import Viewer
from gateway.render import Message

if TYPE_CHECKING:
    from gateway.context import Gateway


async def await_news(request: Request, gateway: Gateway, execution_id: str, after: Cursor, seconds: float) -> bool:
    """Return as soon as the log has more than what a cursor has seen, or has ended, or the time is over.

    False when this gateway drains: whoever asks again should ask another one.
    Raises BusUnavailableError; ClientDisconnect when nobody waits for the answer any more.
    """
    hub = gateway.hub
    topic = await hub.open(execution_id)
    bell = Bell()
    viewer = Viewer(bell, RINGING, Numbering.after(after))
    gone = asyncio.create_task(_gone(request), name=f"long-poll:{execution_id}")
    rung = asyncio.create_task(bell.rung.wait())
    try:
        # Nothing was awaited since the topic was opened: it is still the hub's.
        topic.join(viewer)
        if hub.draining:
            hub.send_away(topic, viewer)
        await asyncio.wait([gone, rung], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub.leave(topic, viewer)
        gone.cancel()
        rung.cancel()
    if gone.done() and not rung.done():
        raise ClientDisconnect
    return not bell.sent_away


class Bell:
    """A viewer's socket that is never full: whatever is written to it is news."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()
        self.sent_away = False

    def write(self, message: Message) -> bool:
        del message
        self.rung.set()
        return True

    def finish(self, message: Message) -> None:
        self.write(message)

    def send_away(self, message: Message) -> None:
        self.sent_away = True
        self.write(message)

    def cut(self) -> None:
        # The log was deleted, or the gateway ends: what there is now, a look at the log tells.
        self.rung.set()


class Ringing:
    """Entries and gaps are news; how the stream stands is none."""

    name = "ringing"
    heartbeat = b""

    def entry(self, execution_id: str, entry: Entry) -> bytes:
        del execution_id, entry
        return b"!"

    def skipped(self, execution_id: str, cursor: Cursor) -> bytes:
        del execution_id, cursor
        return b""

    def control(self, name: str, payload: dict[str, Any]) -> bytes:
        del payload
        return b"" if name in _NO_NEWS else b"!"

    def message(self, frames: bytes) -> Message:
        return {"frames": frames}


_NO_NEWS: Final = frozenset({"stream.open", "stream.caught_up"})
RINGING: Final = Ringing()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
