"""A viewer whose last frame does not go out can still be cut, whatever it was told last and over which socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, Cursor
from tailrace.gateway.access.dismissal import dismiss
from tailrace.gateway.asgi.uvicorn_internals import AsgiSink, FramedSend
from tailrace.gateway.hub import Topic, Viewer
from tailrace.gateway.hub.viewer import Stage
from tailrace.gateway.presence.live_connections import REVOKED
from tailrace.gateway.streams.close_codes import CloseCode
from tailrace.gateway.streams.multiplex import MultiplexConnection, MultiplexSend
from tailrace.gateway.streams.socket_connection import SocketConnection
from tailrace.gateway.wire.cursors import Cursors
from tailrace.gateway.wire.formats import SSE, Message
from tailrace.gateway.wire.multiplex import MULTIPLEX_SSE
from tailrace.gateway.wire.socket_formats import WS_JSON
from tests.patience import patient

pytestmark = pytest.mark.anyio

AT = Cursor(1, 1)
SLOW_SECONDS = 30.0


class Transport:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Connection:
    """What uvicorn's connection is to an application; it takes so many messages more, and then no other."""

    def __init__(self, takes: int = 1000) -> None:
        self.transport = Transport()
        self.takes = takes
        self.got: list[Message] = []
        self._more = asyncio.Event()

    async def send(self, message: Message) -> None:
        while self.takes == 0:
            await self._more.wait()
        self.takes -= 1
        self.got.append(message)

    def take_all(self) -> None:
        self.takes = 1000
        self._more.set()


class FakeHub:
    def __init__(self) -> None:
        self.deliveries = 0
        self.topic = Topic("x", AT, cast("Any", self), max_entries=8, max_bytes=10**6)
        self.clock = 0.0

    def leave(self, topic: Topic, viewer: Viewer) -> None:
        topic.leave(viewer)

    def now(self) -> float:
        return self.clock

    def count(self, name: str, amount: int = 1) -> None:
        pass

    def cut_stuck(self) -> int:
        """As the hub does again and again; the first look only sees how much is unsent."""
        cut = self.topic.cut_stuck(self.clock, SLOW_SECONDS)
        self.clock += 2 * SLOW_SECONDS
        return cut + self.topic.cut_stuck(self.clock, SLOW_SECONDS)

    def viewer_of_one(self, connection: Connection) -> Viewer:
        sink = AsgiSink(connection.send)
        viewer = Viewer(sink, SSE, Numbering.after(AT))
        self.topic.join(viewer)
        assert viewer.stage is Stage.LIVE
        return viewer

    def viewer_of_several(self, connection: Connection) -> MultiplexConnection:
        send = MultiplexSend(
            connection.send,
            Cursors(["x"], [START]),
            heartbeat=MULTIPLEX_SSE.heartbeat,
            heartbeat_seconds=1,
            now=lambda: self.clock,
        )
        several = MultiplexConnection(send, cast("Any", self), MULTIPLEX_SSE, ["x"])
        several.subscribe(self.topic, Numbering.after(AT), wanted=None, coalesce_ms=0)
        several.opened()
        return several

    def viewer_of_a_socket(self, connection: Connection) -> SocketConnection[Any]:
        socket = SocketConnection(FramedSend(connection.send), cast("Any", self), WS_JSON, only="x")
        socket.subscribe(self.topic, Numbering.after(AT), wanted=None, coalesce_ms=0)
        return socket


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(patient(5)):
        while not condition():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)


VIEWERS = [FakeHub.viewer_of_one, FakeHub.viewer_of_several, FakeHub.viewer_of_a_socket]


@pytest.mark.parametrize("watch", VIEWERS)
@pytest.mark.parametrize("taken", [0, 1])
async def test_attack_60_a_viewer_whose_ending_is_held_is_cut_in_time(watch: Callable[..., Any], taken: int) -> None:
    """Whether the last frame is held, or what closes the response behind it."""
    hub, connection = FakeHub(), Connection()
    kept = watch(hub, connection)
    connection.takes = taken
    hub.topic.end("completed")
    assert hub.cut_stuck() == 1
    assert connection.transport.aborted
    assert hub.topic.viewers == {}
    del kept


@pytest.mark.parametrize("watch", VIEWERS[1:])
@pytest.mark.parametrize("taken", [0, 1])
async def test_attack_60_a_viewer_whose_ending_was_held_leaves_once_it_is_out(
    watch: Callable[..., Any], taken: int
) -> None:
    hub, connection = FakeHub(), Connection()
    kept = watch(hub, connection)
    connection.takes = taken
    hub.topic.end("completed")
    assert len(hub.topic.viewers) == 1
    connection.take_all()
    await until(lambda: connection.got[-1].get("more_body") is False or connection.got[-1]["type"] == "websocket.close")
    await until(lambda: hub.topic.viewers == {})
    assert not connection.transport.aborted
    del kept


@pytest.mark.parametrize("taken", [0, 1])
async def test_attack_60_a_dismissed_viewer_that_takes_no_more_is_cut_at_once(taken: int) -> None:
    """Its credential has ended, or an operator has ended it: nobody looks after it any more."""
    hub, connection = FakeHub(), Connection()
    viewer = hub.viewer_of_one(connection)
    connection.takes = taken
    dismiss(cast("Any", hub), hub.topic, viewer, REVOKED)
    assert connection.transport.aborted
    assert hub.topic.viewers == {}


@pytest.mark.parametrize("taken", [0, 1])
async def test_attack_60_a_viewer_that_is_sent_away_and_takes_no_more_is_cut_at_once(taken: int) -> None:
    hub, connection = FakeHub(), Connection()
    viewer = hub.viewer_of_one(connection)
    connection.takes = taken
    hub.topic.send_away(viewer, retry_ms=1)
    assert connection.transport.aborted


@pytest.mark.parametrize("watch", VIEWERS[1:])
@pytest.mark.parametrize("taken", [0, 1])
async def test_attack_60_a_shared_connection_that_takes_no_more_is_cut_when_it_is_ended(
    watch: Callable[..., Any], taken: int
) -> None:
    hub, connection = FakeHub(), Connection()
    shared = watch(hub, connection)
    connection.takes = taken
    message = shared.rendering.message(shared.rendering.control("stream.error", {"code": "token_revoked"}))
    if isinstance(shared, SocketConnection):
        shared.end(message, CloseCode.TOKEN_ENDED)
    else:
        shared.end(message)
    assert connection.transport.aborted
    assert hub.topic.viewers == {}
