"""One connection and the viewers that share it, whatever it is: a WebSocket, or a response for several executions."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Generic, TypeVar

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.filter import Filter
from tailrace.gateway.asgi.stepping import SteppedSend
from tailrace.gateway.hub import Hub, Topic, Viewer
from tailrace.gateway.hub.viewer import Stage
from tailrace.gateway.limits.sockets import MAX_READING
from tailrace.gateway.streams.socket_outbox import SocketOutbox
from tailrace.gateway.wire.formats import Format, Message

R = TypeVar("R", bound=Format)


class SharedConnection(ABC, Generic[R]):
    """Writes for all of its viewers. When it is full, all of its viewers lag until it is their turn again.

    ``subscriptions`` are the running ones, by execution.
    """

    __slots__ = ("_closing", "_hub", "_outbox", "_replies", "_send", "_turns", "rendering", "subscriptions")

    def __init__(self, send: SteppedSend, hub: Hub, rendering: R) -> None:
        self.rendering = rendering
        self.subscriptions: dict[str, SharedSink] = {}
        self._hub = hub
        self._send = send
        self._send.on_drained = self._released
        self._send.on_lost = self._lost
        self._outbox = SocketOutbox(self._send.write)
        self._turns = asyncio.Semaphore(MAX_READING)
        self._replies = Pause()
        self._closing = False

    @property
    def executions(self) -> tuple[str, ...]:
        """What is watched over it at the moment."""
        return tuple(self.subscriptions)

    @property
    def closing(self) -> bool:
        """Nothing more is to be said here: it was closed by us, or is gone."""
        return self._closing or self._outbox.abandoned

    def subscribe(
        self,
        topic: Topic,
        position: Numbering,
        *,
        wanted: Filter | None,
        coalesce_ms: int,
        reply: Message | None = None,
        compress: bool = False,
    ) -> None:
        """Say so with ``reply``, then give the topic's entries from the position on; compressed, where that can be."""
        sink = SharedSink(self, self._outbox, topic, compress=compress)
        turn = _Turn(self._outbox, self._turns)
        viewer = sink.viewer = Viewer(sink, self.rendering, position, wanted=wanted, coalesce_ms=coalesce_ms, turn=turn)
        self.subscriptions[topic.execution_id] = sink
        if reply is not None:
            self._outbox.put(self._replies, reply)
        topic.join(viewer)

    def unsubscribe(self, execution_id: str) -> None:
        """From now on nothing of this execution is written. Raises KeyError."""
        self._leave(self.subscriptions.pop(execution_id))

    def say(self, message: Message) -> None:
        """Say something that is of no execution."""
        self._outbox.put(self._replies, message)

    def finished(self, sink: SharedSink, message: Message) -> bool:
        """The last of one execution; False when it is held, with ``sink.drained`` to come."""
        self.subscriptions.pop(sink.topic.execution_id, None)
        out = self._outbox.put(sink, self.addressed(sink, message))
        out = self.one_finished(sink) and out
        if out:
            self._leave(sink)
        return out

    def unsent_bytes(self) -> int | None:
        return self._send.unsent_bytes()

    def addressed(self, sink: SharedSink, message: Message) -> Message:
        """What is written for one of the executions, where the connection must know for which."""
        del sink
        return message

    @abstractmethod
    def one_finished(self, sink: SharedSink | None = None) -> bool:
        """One of the executions has ended: close, where it was the last. False when that is held, as for ``finish``."""

    @abstractmethod
    def send_away(self, message: Message) -> None:
        """All viewers leave together: a client makes one new connection, not one for each of them."""

    def end_with(self, message: Message, last: Message) -> None:
        """Say why, and close well with the last message; a full connection is cut instead."""
        if self._outbox.held or not self._outbox.put(_Last(), message) or not self.close_with(last):
            self.abort()

    def close_with(self, last: Message, sink: SharedSink | None = None) -> bool:
        """Close well, behind everything that has been said; False when that is held. ``sink`` is drained then."""
        if self.closing:
            return True
        self._closing = True
        self.leave()
        return self._outbox.put(_Last(sink), last)

    def abort(self) -> None:
        """Close at once."""
        self._send.abort()
        self._lost()

    def leave(self) -> None:
        """Let all viewers go."""
        while self.subscriptions:
            self._leave(self.subscriptions.popitem()[1])

    def over(self) -> None:
        """The client has gone, or has been told the last: nothing here holds each other from now on."""
        self.leave()
        self._outbox.abandon()
        self._send.forget()

    def _leave(self, sink: SharedSink) -> None:
        if (viewer := getattr(sink, "viewer", None)) is not None:
            self._hub.leave(sink.topic, viewer)
        self._outbox.forget(sink)
        sink.let_go()

    def _released(self) -> None:
        # The socket goes on, so none of its viewers is stuck, however long the queue before it.
        now = self._hub.now()
        for sink in self.subscriptions.values():
            sink.viewer.stuck_since = now
        self._outbox.released()

    def _lost(self) -> None:
        self.leave()
        self._outbox.abandon()


class SharedSink:
    """The end of one subscription: a viewer's part of a shared socket."""

    __slots__ = ("_connection", "_outbox", "compress", "topic", "viewer")

    viewer: Viewer

    def __init__(
        self, connection: SharedConnection[Any], outbox: SocketOutbox, topic: Topic, *, compress: bool = False
    ) -> None:
        self.compress = compress
        self._connection = connection
        self._outbox = outbox
        self.topic = topic

    def write(self, message: Message) -> bool:
        return self._outbox.put(self, self._connection.addressed(self, message))

    def finish(self, message: Message) -> bool:
        return self._connection.finished(self, message)

    def unsent_bytes(self) -> int | None:
        return self._connection.unsent_bytes()

    def send_away(self, message: Message) -> None:
        self._connection.send_away(message)

    def cut(self) -> None:
        # The socket took nothing for anybody.
        self._connection.abort()

    def drained(self) -> None:
        viewer = getattr(self, "viewer", None)
        # It has left, where its last message and what closes the connection were both held.
        if viewer is not None:
            self.topic.drained(viewer)
            if viewer.stage is Stage.GONE:
                self.let_go()

    def let_go(self) -> None:
        """The viewer has left. Until now they held each other."""
        if hasattr(self, "viewer"):
            del self.viewer


class Pause:
    """A task that waits for its turn."""

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn: asyncio.Future[None] | None = None

    async def wait(self, outbox: SocketOutbox) -> None:
        self._turn = asyncio.get_running_loop().create_future()
        outbox.wait(self)
        try:
            await self._turn
        finally:
            self._turn = None

    def drained(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)


class _Turn:
    """Leave to read a page: few at a time, and not while the socket is full, or each viewer would come to hold one."""

    __slots__ = ("_outbox", "_turns")

    def __init__(self, outbox: SocketOutbox, turns: asyncio.Semaphore) -> None:
        self._outbox = outbox
        self._turns = turns

    async def __aenter__(self) -> None:
        await self._turns.acquire()
        if self._outbox.held:
            try:
                await Pause().wait(self._outbox)
            except BaseException:
                self._turns.release()
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.release()


class _Last:
    """A writer that says one thing and no more, perhaps for the last of the viewers."""

    __slots__ = ("_sink",)

    def __init__(self, sink: SharedSink | None = None) -> None:
        self._sink = sink

    def drained(self) -> None:
        if self._sink is not None:
            self._sink.drained()
