"""How Redis is deployed, as far as connections go: one server (or Sentinel's choice of one), or a cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeVar

from tailrace.bus.errors import ConnectionLostError, InvalidInputError, ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.retry import Backoff
from tailrace.bus.redis.address import Target, dial_of, node_url
from tailrace.bus.redis.cluster import ClusterConnection
from tailrace.bus.redis.commands import Commands, Line
from tailrace.bus.redis.connection import Connection, Dial
from tailrace.bus.redis.primary import Primary
from tailrace.bus.redis.slots import Address
from tailrace.bus.redis.supervised import WRONG_SERVER_CODES, SupervisedConnection
from tailrace.bus.tail.blocking import BlockingTail
from tailrace.bus.tail.cluster import ClusterTail
from tailrace.bus.tail.tracking import TrackingTail
from tailrace.bus.tail.watch import Tail

logger = logging.getLogger(__name__)

TailMode = Literal["auto", "tracking", "blocking"]
T = TypeVar("T", SupervisedConnection, ClusterConnection, ClusterTail)


class Deployment(Protocol):
    """Opens connections. Promises that they are connected; raises BusUnavailableError where no server answers."""

    async def open_line(
        self,
        name: str,
        *,
        wait_seconds: float = 5.0,
        home: tuple[str, Callable[[Connection], None]] | None = None,
        backoff: Backoff | None = None,
    ) -> Line:
        """``home`` is a key, and what is given each connection to the server that has it, as it is made."""

    def beside(self, commands: Commands, key: str) -> Commands:
        """For commands without keys: they go to the server that has ``key``."""

    async def open_tail(self, shared: Commands, mode: TailMode) -> Tail:
        """Raises ReplyError when tracking is demanded and refused."""

    def start(self) -> None:
        """Begin to hear of what changes in the deployment, in the running loop."""

    async def aclose(self) -> None:
        """Hear of it no more."""


class Standalone:
    def __init__(self, dial: Dial, counters: Counters) -> None:
        self._dial = dial
        self._counters = counters
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        if isinstance(self._dial, Primary):
            self._watching = asyncio.create_task(self._dial.watch(self._counters), name="primary")

    async def aclose(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def open_line(
        self,
        name: str,
        *,
        wait_seconds: float = 5.0,
        home: tuple[str, Callable[[Connection], None]] | None = None,
        backoff: Backoff | None = None,
    ) -> SupervisedConnection:
        connection = SupervisedConnection(
            self._dial,
            counters=self._counters,
            name=name,
            wait_seconds=wait_seconds,
            on_connect=None if home is None else home[1],
            backoff=backoff,
        )
        return await _opened(connection, connection.connect())

    def beside(self, commands: Commands, key: str) -> Commands:
        del key
        return commands

    async def open_tail(self, shared: Commands, mode: TailMode) -> Tail:
        """Tracking where it is allowed, blocking where it is not, and never silently."""
        if mode != "blocking":
            tail = TrackingTail(self._dial, counters=self._counters)
            try:
                await tail.start()
            except (ReplyError, ConnectionLostError) as refusal:
                await tail.aclose()
                not_ready = isinstance(refusal, ReplyError) and refusal.code in WRONG_SERVER_CODES
                if mode == "tracking" or not_ready:
                    raise
                self._counters.add("tail_fallbacks")
                logger.warning("tail: CLIENT TRACKING refused (%s); falling back to blocking XREAD", refusal)
            else:
                return tail
        return BlockingTail(lambda: self.open_line("tail"), shared, counters=self._counters)


class Cluster:
    def __init__(self, target: Target, counters: Counters) -> None:
        self._target = target
        self._counters = counters

    def start(self) -> None:
        """Nothing: its nodes say by their answers what has changed."""

    async def aclose(self) -> None:
        """Nothing."""

    async def open_line(
        self,
        name: str,
        *,
        wait_seconds: float = 5.0,
        home: tuple[str, Callable[[Connection], None]] | None = None,
        backoff: Backoff | None = None,
    ) -> ClusterConnection:
        connection = ClusterConnection(
            self._dial_node,
            self._target.addresses,
            counters=self._counters,
            name=name,
            wait_seconds=wait_seconds,
            backoff=backoff,
            home=home,
        )
        return await _opened(connection, connection.connect())

    def beside(self, commands: Commands, key: str) -> Commands:
        if not isinstance(commands, ClusterConnection):
            raise TypeError("a cluster is asked over the cluster's connection")
        return commands.beside(key)

    async def open_tail(self, shared: Commands, mode: TailMode) -> Tail:
        """Tracking only: a blocking read of several logs cannot cross slots."""
        if mode == "blocking":
            raise InvalidInputError("tail", "'blocking' does not work on a cluster; use 'tracking' or 'auto'")
        if not isinstance(shared, ClusterConnection):
            raise TypeError("a cluster's tail needs the cluster's connection")
        tail = ClusterTail(shared, self._dial_node, counters=self._counters)
        return await _opened(tail, tail.start())

    def _dial_node(self, address: Address) -> Dial:
        return dial_of(node_url(self._target, address))


def deployment_of(target: Target, counters: Counters) -> Deployment:
    if target.kind == "cluster":
        return Cluster(target, counters)
    return Standalone(dial_of(target), counters)


async def _opened(resource: T, opening: Awaitable[object]) -> T:
    try:
        await opening
    except BaseException:
        await resource.aclose()
        raise
    return resource
