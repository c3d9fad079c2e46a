"""The streaming response for several executions: headers as for one, and as many viewers as there are executions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial

from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from bus.continuity import Numbering
from bus.cursor import Cursor
from gateway.auth.access import Access, access_of
from gateway.auth.sessions import Ending
from gateway.hub import Filter, Hub, Topic
from gateway.multiplex.connection import MultiplexConnection, MultiplexSend
from gateway.multiplex.cursors import Cursors
from gateway.multiplex.format import MultiplexFormat, remark
from gateway.render import SseFormat
from gateway.ws.close_codes import CloseCode


@dataclass(frozen=True, slots=True)
class Member:
    """One of the executions; ``topic`` is None when it has ended and the viewer knows."""

    execution_id: str
    cursor: Cursor
    topic: Topic | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """How the viewer wants it; ``tell_cursors`` for one who has no id yet to come back with."""

    plain: SseFormat
    wanted: Filter | None
    coalesce_ms: int
    retry_ms: int
    tell_cursors: bool


class MultiplexResponse(EventSourceResponse):
    def __init__(self, hub: Hub, members: Sequence[Member], wishes: Wishes) -> None:
        super().__init__(_nothing(), headers={"Cache-Control": "no-cache, no-transform"}, ping=0)
        self._hub = hub
        self._members = members
        self._wishes = wishes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        access = access_of(scope)
        access.check_room()
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        state = scope.get("state", {})
        watching = partial(self._watch, state.get("server_send", send), access)
        if "afterwards" in state:
            # The request has been answered for; what waits from here on need not hold it, nor the layers around it.
            state["afterwards"] = watching
        else:
            await watching(receive)

    async def _watch(self, send: Send, access: Access, receive: Receive) -> None:
        """Stay until the viewer has gone, all executions have ended, or its credential has."""
        executions = [member.execution_id for member in self._members]
        cursors = Cursors(executions, [member.cursor for member in self._members])
        rendering = MultiplexFormat(executions, self._wishes.plain)
        writer = MultiplexSend(
            send,
            cursors,
            heartbeat=rendering.heartbeat,
            heartbeat_seconds=self._hub.limits.heartbeat_seconds,
            now=asyncio.get_running_loop().time,
        )
        connection = MultiplexConnection(writer, self._hub, rendering)
        stay = access.stay("multiplex", connection, partial(_dismiss, connection, rendering))
        try:
            first = b"retry: %d\n\n" % self._wishes.retry_ms
            if self._wishes.tell_cursors:
                first += b"id: %b\n\n" % cursors.id()
            connection.say(rendering.message(remark(first)))
            self._join(connection)
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            connection.leave()
            stay.leave()

    def _join(self, connection: MultiplexConnection) -> None:
        wishes = self._wishes
        for member in self._members:
            if member.topic is not None and not connection.closing:
                connection.subscribe(
                    member.topic,
                    Numbering.after(member.cursor),
                    wanted=wishes.wanted,
                    coalesce_ms=wishes.coalesce_ms,
                )
        if self._hub.draining:
            # It asked on a connection that it had before.
            connection.send_all_away()
        else:
            connection.opened()


def _dismiss(connection: MultiplexConnection, rendering: MultiplexFormat, ending: Ending) -> None:
    frames = rendering.control("stream.error", {"code": ending.code, "detail": ending.detail})
    connection.end(rendering.message(frames), CloseCode.TOKEN_ENDED)


async def _nothing() -> AsyncIterator[bytes]:
    """Stand in for the stream that sse-starlette would iterate; the hub writes instead."""
    frames: tuple[bytes, ...] = ()
    for frame in frames:
        yield frame
