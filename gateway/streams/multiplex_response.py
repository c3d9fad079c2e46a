"""The streaming response for several executions: headers as for one, and as many viewers as there are executions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.types import Receive, Send

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.filter import Filter
from tailrace.gateway.access.access import Access
from tailrace.gateway.hub import Hold, Hub, Topic
from tailrace.gateway.presence.live_connections import ConnectionEnding
from tailrace.gateway.streams.multiplex import MultiplexConnection, MultiplexSend
from tailrace.gateway.streams.response import LastingResponse
from tailrace.gateway.streams.writing import Watching
from tailrace.gateway.wire.cursors import Cursors
from tailrace.gateway.wire.formats import sse_opening
from tailrace.gateway.wire.multiplex import MultiplexFormat, remark


@dataclass(frozen=True, slots=True)
class Member:
    """One of the executions; ``topic`` is None when it has ended and the viewer knows, and held until it is joined."""

    execution_id: str
    cursor: Cursor
    topic: Topic | None
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class MultiplexRequest:
    """How the viewer wants it; ``tell_cursors`` for one who has no id yet to come back with."""

    rendering: MultiplexFormat
    wanted: Filter | None
    coalesce_ms: int
    retry_ms: int
    tell_cursors: bool


class MultiplexResponse(LastingResponse):
    def __init__(self, hub: Hub, access: Access, members: Sequence[Member], wishes: MultiplexRequest) -> None:
        super().__init__(access)
        self._hub = hub
        self._members = members
        self._wishes = wishes

    def begin(self, send: Send) -> Watching:
        return partial(self._watch, send)

    async def _watch(self, send: Send, receive: Receive) -> None:
        """Stay until the viewer has gone, all executions have ended, or its credential has."""
        executions = [member.execution_id for member in self._members]
        cursors = Cursors(executions, [member.cursor for member in self._members])
        rendering = self._wishes.rendering
        writer = MultiplexSend(
            send,
            cursors,
            heartbeat=rendering.heartbeat,
            heartbeat_seconds=self._hub.limits.heartbeat_seconds,
            now=asyncio.get_running_loop().time,
        )
        connection = MultiplexConnection(writer, self._hub, rendering, executions)
        registration = self.access.register("multiplex", connection, partial(_dismiss, connection, rendering))
        try:
            opening = sse_opening(self._wishes.retry_ms, cursors.id() if self._wishes.tell_cursors else None)
            connection.say(rendering.message(remark(opening)))
            self._join(connection)
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            connection.over()
            registration.leave()

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
            if member.hold is not None:
                member.hold.release()
        if self._hub.draining:
            # It asked on a connection that it had before.
            connection.send_all_away()
        else:
            connection.opened()


def _dismiss(connection: MultiplexConnection, rendering: MultiplexFormat, ending: ConnectionEnding) -> None:
    frames = rendering.control("stream.error", {"code": ending.code, "detail": ending.detail})
    connection.end(rendering.message(frames))
