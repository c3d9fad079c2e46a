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
        # Nodes that no tail is open for yet.
        self._opening: dict[Address, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self._router: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open a tail on each node; those that do not answer are tried again while the others are watched.

        Raises BusUnavailableError when none answers, ReplyError where tracking is refused; ``aclose`` it then.
        """
        if self._commands.map is None:
            await self._commands.refresh()
        addresses = list(self._commands.map.addresses) if self._commands.map is not None else []
        opened = await asyncio.gather(*map(self._open_at, addresses), return_exceptions=True)
        for error in opened:
            may_come = isinstance(error, BusUnavailableError) and not isinstance(error, ReplyError)
            if error is not None and not (self._tails and may_come):
                raise error
        for address in addresses:
            if address not in self._tails:
                self._open_soon(address)
        self._router = asyncio.create_task(self._route(), name="tail:cluster")

    def watch(self, key: str, cursor: Cursor, listener: Listener) -> ClusterWatch:
        if self._closed:
            raise BusClosedError("the tail is closed")
        watch = ClusterWatch(self, key, cursor, listener)
        self._watches[watch] = None
        self.place(watch)
        return watch

    def place(self, watch: ClusterWatch) -> None:
        """Watch on the node that the map names; later, when that is not known or not open yet."""
        if not self._placed(watch):
            self._unplaced[watch] = None
            self._wake.set()

    def _placed(self, watch: ClusterWatch) -> bool:
        address = self._owner(watch)
        tail = self._tails.get(address) if address is not None else None
        if tail is None:
            return False
        self._unplaced.pop(watch, None)
        watch.address = address
        watch.inner = tail.watch(watch.key, watch.cursor, watch)
        if watch.suspended:
            watch.inner.suspend()
        return True

    def _owner(self, watch: ClusterWatch) -> Address | None:
        try:
            return self._commands.owner(slot_of_key(watch.key))
        except BusUnavailableError:
            return None

    def forget(self, watch: ClusterWatch) -> None:
        self._watches.pop(watch, None)
        self._unplaced.pop(watch, None)

    def reroute(self) -> None:
        """Look soon whether slots have moved."""
        self._wake.set()

    async def aclose(self) -> None:
        self._closed = True
        tasks = [*self._opening.values(), *([] if self._router is None else [self._router])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        nowhere = [watch for watch in self._watches if watch.inner is None]
        for tail in self._tails.values():
            await tail.aclose()
        for watch in nowhere:
            # No node tells them.
            watch.disturbed("closed")
        self._tails.clear()
        self._watches.clear()
        self._unplaced.clear()

    async def _open_at(self, address: Address) -> None:
        tail = TrackingTail(self._dial_node(address), counters=self._counters, alone=True)
        try:
            await tail.start()
        except BaseException:
            await tail.aclose()
            raise
        self._tails[address] = tail

    def _open_soon(self, address: Address) -> None:
        if address not in self._opening:
            task = self._opening[address] = asyncio.create_task(self._open(address), name="tail:cluster:node")
            task.add_done_callback(lambda _: self._opening.pop(address, None))

    async def _open(self, address: Address) -> None:
        """Until it answers, or the map names it no more; the other nodes are watched meanwhile."""
        backoff, attempt = Backoff(most_seconds=ROUTE_SECONDS), 0
        while self._commands.map is not None and address in self._commands.map.addresses:
            try:
                await self._open_at(address)
            except BusClosedError:
                return
            except (BusUnavailableError, OSError) as error:
                attempt += 1
                if attempt == 1:
                    self._counters.add("tail_unreachable_nodes")
                    logger.warning("tail: the node %s:%d cannot be watched: %s; retrying", *address, error)
                await asyncio.sleep(backoff.delay_seconds(attempt, random.random))
            else:
                self._wake.set()
                return

    async def _route(self) -> None:
        backoff, attempt = Backoff(most_seconds=ROUTE_SECONDS), 0
        while True:
            # A node that does not answer says nothing: while one is away, the map is looked at again and again.
            try:
                async with asyncio.timeout(ROUTE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                waiting = self._unplaced or self._opening
                if not waiting and all(tail.connected for tail in self._tails.values()):
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
            self._open_soon(address)
        for watch in list(self._watches):
            owner = self._owner(watch)
            if watch.inner is not None and watch.address in ((owner,) if owner is not None else addresses):
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
                self._placed(watch)
        for address in self._tails.keys() - addresses:
            await self._tails.pop(address).aclose()
