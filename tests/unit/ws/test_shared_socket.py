"""Several executions over one socket that is full now and then: every subscription gets exactly its suffix.

Real topics and a real connection; the log is a model, the socket a fake that holds what it is sent when it is full.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START
from tailrace.gateway.asgi.uvicorn_internals import FramedSend
from tailrace.gateway.hub import Hub, Topic, Viewer
from tailrace.gateway.hub.pages import RenderedPage
from tailrace.gateway.streams.close_codes import CloseCode
from tailrace.gateway.streams.socket_connection import SocketConnection
from tailrace.gateway.wire.formats import Message
from tailrace.gateway.wire.socket_formats import WS_JSON, SocketFormat
from tests.patience import patient
from tests.unit.hub.test_topic_arithmetic import ModelLog, entry

pytestmark = pytest.mark.anyio

NAMES = ("a", "b", "c")
PAGE = 4


class FakeSocket:
    """What uvicorn's connection is to an application: its ``send`` waits while the transport is paused."""

    def __init__(self) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.broken = False
        self.got: list[Message] = []

    async def send(self, message: Message) -> None:
        await self.writable.wait()
        if self.broken:
            raise OSError("gone")
        self.got.append(message)

    def said(self) -> list[dict[str, Any]]:
        frames = [message["text"] for message in self.got if message["type"] == "websocket.send"]
        return [message for frame in frames for message in json.loads(frame)]


class FakeHub:
    """Topics over model logs; pages come when they are asked for by ``answer``."""

    def __init__(self) -> None:
        self.deliveries = 0
        self.logs = {name: ModelLog() for name in NAMES}
        self.tails = {name: Numbering.after(START) for name in NAMES}
        self.topics = {
            name: Topic(name, START, cast("Any", self), max_entries=6, max_bytes=10**9, status="running")
            for name in NAMES
        }
        self.readings: list[asyncio.Task[None]] = []

    def leave(self, topic: Topic, viewer: Viewer) -> None:
        topic.leave(viewer)

    def read_page(self, topic: Topic, viewer: Viewer) -> None:
        self.readings.append(asyncio.create_task(self._read(topic, viewer)))

    async def _read(self, topic: Topic, viewer: Viewer) -> None:
        assert viewer.turn is not None
        async with viewer.turn:
            if viewer in topic.viewers:
                page = self.logs[topic.execution_id].read(viewer.position, PAGE)
                await asyncio.sleep(0)
                topic.page(viewer, RenderedPage(topic.execution_id, page, 0.0))

    def later(self, _: int, call: Any) -> None:
        asyncio.get_running_loop().call_soon(call)

    def now(self) -> float:
        return 0.0

    def count(self, name: str, amount: int = 1) -> None:
        pass

    def append(self, name: str, count: int, *, end: bool = False) -> None:
        log = self.logs[name]
        if not log.closed:
            for number in range(count):
                log.entries.append(entry(len(log.entries) + 1, terminal=end and number == count - 1))
            log.closed = end

    def deliver(self, name: str, count: int) -> None:
        topic = self.topics[name]
        if not topic.ended:
            page = self.logs[name].read(self.tails[name], count)
            self.tails[name] = page.position
            if page.items:
                topic.news(page.items)
            if page.ended:
                topic.end("completed")


def subscribe(hub: FakeHub, connection: SocketConnection[SocketFormat], name: str) -> None:
    reply = WS_JSON.message(WS_JSON.piece({"op": "subscribed", "execution": name}))
    connection.subscribe(hub.topics[name], Numbering.after(START), wanted=None, coalesce_ms=0, reply=reply)


async def settle(hub: FakeHub) -> None:
    for _ in range(50):
        await asyncio.sleep(0)
    for reading in hub.readings:
        if reading.done():
            reading.result()


def numbers(socket: FakeSocket, name: str) -> list[int]:
    return [
        int(message["id"].split("-")[1])
        for message in socket.said()
        if message["op"] == "event" and message["execution"] == name
    ]


STEP = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(NAMES), st.integers(1, 9)),
    st.tuples(st.just("deliver"), st.sampled_from(NAMES), st.integers(1, 12)),
    st.tuples(st.just("subscribe"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("unsubscribe"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.sampled_from(["pause", "resume", "turn", "turn"]), st.just("a"), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, max_size=50))
def test_any_interleaving_gives_every_subscription_its_exact_suffix(steps: list[tuple[str, str, int]]) -> None:
    asyncio.run(play(steps))


async def play(steps: list[tuple[str, str, int]]) -> None:
    hub, socket = FakeHub(), FakeSocket()
    connection = SocketConnection(FramedSend(socket.send), cast("Hub", hub), WS_JSON)
    ops: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    doing = asyncio.create_task(do(ops, hub, connection))
    for step, name, count in steps:
        match step:
            case "append":
                hub.append(name, count)
            case "deliver":
                hub.deliver(name, count)
            case "subscribe" | "unsubscribe":
                ops.put_nowait((step, name))
            case "pause":
                socket.writable.clear()
            case "resume":
                socket.writable.set()
            case "turn":
                await asyncio.sleep(0)
        if doing.done():
            doing.result()
    socket.writable.set()
    await ops.join()
    for name in NAMES:
        hub.append(name, 1, end=True)
    for _ in range(30):
        await settle(hub)
        for name in NAMES:
            hub.deliver(name, 5)
    doing.cancel()
    for name in NAMES:
        check(stretches(socket, name), len(hub.logs[name].entries))
    assert connection.subscriptions == {}


async def do(ops: asyncio.Queue[tuple[str, str]], hub: FakeHub, connection: SocketConnection[SocketFormat]) -> None:
    """One op after the other, each once the answer to the one before is out."""
    while True:
        op, name = await ops.get()
        if op == "subscribe" and name not in connection.subscriptions:
            subscribe(hub, connection, name)
            await connection.replied()
        elif op == "unsubscribe" and name in connection.subscriptions:
            connection.unsubscribe(name)
            await connection.reply(WS_JSON.message(WS_JSON.piece({"op": "unsubscribed", "execution": name})))
        ops.task_done()


def stretches(socket: FakeSocket, name: str) -> list[list[dict[str, Any]]]:
    """What was said of an execution, one list for each time that it was subscribed to."""
    found: list[list[dict[str, Any]]] = []
    for message in socket.said():
        if message["execution"] == name:
            if message["op"] == "subscribed":
                found.append([])
            found[-1].append(message)
    return found


def check(found: list[list[dict[str, Any]]], total: int) -> None:
    """Each from the start without a hole; to the end, or to the answer that it was left."""
    for stretch in found:
        got = [int(message["id"].split("-")[1]) for message in stretch if message["op"] == "event"]
        last = stretch[-1]["op"]
        assert got == list(range(1, (total if last == "end" else len(got)) + 1))
        assert last in {"end", "unsubscribed"}
        assert [message["op"] for message in stretch].count(last) == 1


async def test_a_full_socket_holds_few_pages_however_many_subscriptions_replay() -> None:
    socket = FakeSocket()
    hub = FakeHub()
    hub.topics = {
        str(n): Topic(str(n), START, cast("Any", hub), max_entries=6, max_bytes=10**9, status="running")
        for n in range(100)
    }
    hub.logs = {name: ModelLog([entry(n + 1) for n in range(20)]) for name in hub.topics}
    connection = SocketConnection(FramedSend(socket.send), cast("Hub", hub), WS_JSON)
    for name in hub.topics:
        subscribe(hub, connection, name)
    socket.writable.clear()
    await settle(hub)
    held = connection._outbox._waiting
    assert sum(message is not None for message in held.values()) <= 4
    socket.writable.set()
    for _ in range(40):
        await settle(hub)
    for name in hub.topics:
        assert numbers(socket, name) == list(range(1, 21))


async def test_a_lost_socket_lets_all_its_viewers_go() -> None:
    hub, socket = FakeHub(), FakeSocket()
    connection = SocketConnection(FramedSend(socket.send), cast("Hub", hub), WS_JSON)
    for name in NAMES:
        hub.append(name, 3)
        hub.deliver(name, 3)
        subscribe(hub, connection, name)
    await settle(hub)
    socket.writable.clear()
    hub.append("a", 1)
    hub.deliver("a", 1)
    await settle(hub)
    socket.broken = True
    socket.writable.set()
    await settle(hub)
    assert connection.closing
    assert all(not topic.viewers for topic in hub.topics.values())
    await asyncio.wait_for(connection.reply({"type": "websocket.send", "text": "[]"}), patient(1))


async def test_sending_one_viewer_away_closes_the_socket_for_all_of_them() -> None:
    hub, socket = FakeHub(), FakeSocket()
    connection = SocketConnection(FramedSend(socket.send), cast("Hub", hub), WS_JSON)
    for name in NAMES:
        hub.append(name, 1)
        hub.deliver(name, 1)
        subscribe(hub, connection, name)
    await settle(hub)
    for topic in hub.topics.values():
        for viewer in list(topic.viewers):
            topic.send_away(viewer, retry_ms=5)
    assert [m for m in socket.said() if m["op"] == "reconnect"] == [{"op": "reconnect", "retry_ms": 5}]
    assert socket.got[-1] == {"type": "websocket.close", "code": CloseCode.DRAINING, "reason": "draining"}
    assert all(not topic.viewers for topic in hub.topics.values())


async def test_a_socket_for_one_execution_closes_behind_its_end_also_when_it_is_full() -> None:
    hub, socket = FakeHub(), FakeSocket()
    connection = SocketConnection(FramedSend(socket.send), cast("Hub", hub), WS_JSON, only="a")
    hub.append("a", 2)
    hub.deliver("a", 2)
    subscribe(hub, connection, "a")
    await settle(hub)
    socket.writable.clear()
    hub.append("a", 1, end=True)
    hub.deliver("a", 1)
    socket.writable.set()
    await settle(hub)
    assert [message["op"] for message in socket.said()][-2:] == ["event", "end"]
    assert socket.got[-1] == {"type": "websocket.close", "code": 1000, "reason": "done"}
