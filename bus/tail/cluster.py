"""Watching streams over all nodes of a cluster: one tracking connection a node."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final

from tailrace.bus.errors import BusClosedError, BusUnavailableError, ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.model.retry import Backoff
from tailrace.bus.redis.cluster import ClusterConnection, DialNode
from tailrace.bus.redis.slots import Address, slot_of_key
from tailrace.bus.tail.tracking import TrackingTail
from tailrace.bus.tail.watch import Listener, Watch

logger = logging.getLogger(__name__)

# How often the map is read again while a node that is needed does not answer.
ROUTE_SECONDS: Final = 1.0
ELSEWHERE_SECONDS: Final = 0.1
_ELSEWHERE: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})


class ClusterWatch:
    """A watch that moves with its slot; to its listener, a move is a disturbance."""

    __slots__ = ("_tail", "address", "closed", "cursor", "inner", "key", "listener", "suspended")

    def __init__(self, tail: ClusterTail, key: str, cursor: Cursor, listener: Listener) -> None:
        self._tail = tail
        self.key = key
        self.cursor = cursor
        self.listener = listener
        self.address: Address | None = None
        self.inner: Watch | None = None
        self.suspended = False
        self.closed = False

    def suspend(self) -> None:
        self.suspended = True
        if self.inner is not None:
            self.inner.suspend()

    def resume(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.suspended = False
        if self.inner is not None:
            self.inner.resume(cursor)
        else:
            self._tail.place(self)

    def close(self) -> None:
        self.closed = True
        if self.inner is not None:
            self.inner.close()
            self.inner = None
        self._tail.forget(self)

    # Listener of the node's tail

    def deliver(self, entries: Sequence[RawEntry]) -> None:
        self.listener.deliver(entries)

    def disturbed(self, reason: str) -> None:
        self.suspended = True
        if reason.partition(" ")[0] in _ELSEWHERE:
            # Not at once: while slots move, the node would only say the same again.
            self._tail.reroute()
            asyncio.get_running_loop().call_later(ELSEWHERE_SECONDS, self._pass_on, reason)
        else:
            self.listener.disturbed(reason)

    def _pass_on(self, reason: str) -> None:
        if not self.closed:
            self.listener.disturbed(reason)


class ClusterTail:
    """Places each watch on the node that serves its slot, and moves it when the slot does."""

    mode = "tracking"

    def __init__(self, commands: ClusterConnection, dial_node: DialNode, *, counters: Counters) -> None:
        self._commands = commands
        self._dial_node = dial_node
        self._counters = counters
        self._tails: dict[Address, TrackingTail] = {}
        self._watches: dict[ClusterWatch, None] = {}
        self._unplaced: dict[ClusterWatch, None] = {}
        self._wake = asyncio.Event()
        self._router: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open a tail on each node. Raises BusUnavailableError, ReplyError where tracking is refused."""
        if self._commands.map is None:
            await self._commands.refresh()
        for address in self._commands.map.addresses if self._commands.map is not None else ():
            await self._open(address)
        self._router = asyncio.create_task(self._route(), name="tail:cluster")

    def watch(self, key: str, cursor: Cursor, listener: Listener) -> ClusterWatch:
        watch = ClusterWatch(self, key, cursor, listener)
        self._watches[watch] = None
        self.place(watch)
        return watch

    def place(self, watch: ClusterWatch) -> None:
        """Watch on the node that the map names; later, when that is not known or not open yet."""
        try:
            address = self._commands.owner(slot_of_key(watch.key))
        except BusUnavailableError:
            address = None
        tail = self._tails.get(address) if address is not None else None
        if tail is None:
            self._unplaced[watch] = None
            self._wake.set()
            return
        self._unplaced.pop(watch, None)
        watch.address = address
        watch.inner = tail.watch(watch.key, watch.cursor, watch)
        if watch.suspended:
            watch.inner.suspend()

    def forget(self, watch: ClusterWatch) -> None:
        self._watches.pop(watch, None)
        self._unplaced.pop(watch, None)

    def reroute(self) -> None:
        """Look soon whether slots have moved."""
        self._wake.set()

    async def aclose(self) -> None:
        if self._router is not None:
            self._router.cancel()
            await asyncio.wait([self._router])
        for tail in self._tails.values():
            await tail.aclose()
        self._tails.clear()
        self._watches.clear()

    async def _open(self, address: Address) -> None:
        tail = TrackingTail(self._dial_node(address), counters=self._counters, alone=True)
        await tail.start()
        self._tails[address] = tail

    async def _route(self) -> None:
        backoff, attempt = Backoff(most_seconds=ROUTE_SECONDS), 0
        while True:
            # A node that does not answer says nothing: while one is away, the map is looked at again and again.
            try:
                async with asyncio.timeout(ROUTE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                if not self._unplaced and all(tail.connected for tail in self._tails.values()):
                    continue
            self._wake.clear()
            try:
                await self._commands.refresh()
                await self._follow_map()
                attempt = 0
            except BusClosedError:
                return
            except (BusUnavailableError, ReplyError) as error:
                attempt += 1
                logger.warning("tail: the cluster's slots could not be read: %s", error)
                await asyncio.sleep(backoff.delay_seconds(attempt, random.random))
                self._wake.set()

    async def _follow_map(self) -> None:
        addresses = self._commands.map.addresses if self._commands.map is not None else frozenset()
        for address in addresses - self._tails.keys():
            await self._open(address)
        for watch in list(self._watches):
            owner = self._commands.owner(slot_of_key(watch.key))
            if owner == watch.address and watch.inner is not None:
                continue
            moved = watch.inner is not None
            if watch.inner is not None:
                watch.inner.close()
                watch.inner = None
            if moved:
                # Proved and resumed by its listener, which places it on its new node.
                self._counters.add("tail_moves")
                watch.suspended = True
                watch.listener.disturbed("moved to another node")
            elif not watch.suspended:
                self.place(watch)
        for address in self._tails.keys() - addresses:
            await self._tails.pop(address).aclose()
