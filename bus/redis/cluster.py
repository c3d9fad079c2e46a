"""Commands to a cluster: each goes to the node that serves its keys; redirections are followed."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from tailrace.bus.errors import BusClosedError, BusUnavailableError, ConnectionLostError, ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.retry import Backoff
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.connection import Connection, Dial
from tailrace.bus.redis.slots import Address, SlotMap, redirection, slot_map, slot_of, slot_of_key
from tailrace.bus.redis.supervised import SupervisedConnection

logger = logging.getLogger(__name__)

MAX_REDIRECTIONS: Final = 6
# How long one node may take to say who serves what before the next is asked as well.
NEXT_NODE_SECONDS: Final = 0.25
Wait = tuple[str, int, int]
DialNode = Callable[[Address], Dial]


class ClusterConnection:
    """One connection a node, opened when it is first needed; the map of slots is read again when it proves wrong."""

    def __init__(
        self,
        dial_node: DialNode,
        seeds: Iterable[Address],
        *,
        counters: Counters,
        name: str,
        wait_seconds: float = 5.0,
        backoff: Backoff | None = None,
        home: tuple[str, Callable[[Connection], None]] | None = None,
    ) -> None:
        """``home`` is a key, and what is to be called with each connection to the node that serves it."""
        self._dial_node = dial_node
        self._seeds = tuple(seeds)
        self._counters = counters
        self._name = name
        self._wait_seconds = wait_seconds
        self._backoff = backoff
        self._home_slot = None if home is None else slot_of_key(home[0])
        self._on_home = None if home is None else home[1]
        # Which node it was called for last.
        self._home: Address | None = None
        self._going_home: asyncio.Task[None] | None = None
        self._connections: dict[Address, SupervisedConnection] = {}
        self._opening: dict[Address, asyncio.Task[SupervisedConnection]] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False
        self.map: SlotMap | None = None

    async def connect(self) -> None:
        """Learn the map of slots from the first seed that answers. Raises BusUnavailableError."""
        await self.refresh()

    async def command(self, *command: bytes | str | float) -> Any:
        return await self._follow(command, None)

    def beside(self, key: str) -> Commands:
        """For commands without keys (CLIENT, INFO): they go to the node that serves ``key``."""
        return _Beside(self, slot_of_key(key))

    async def command_at(self, slot: int, *command: bytes | str | float) -> Any:
        """A command without keys, on the node that serves the slot."""
        return await self._ask(self.owner(slot), command, asking=False)

    async def replicated(self, replicas: int, timeout_ms: int, *command: bytes | str | float) -> tuple[Any, int]:
        """As ``Line`` says; the replicas are those of the node that serves the command's keys."""
        reply, acknowledged = await self._follow(command, ("WAIT", replicas, timeout_ms))
        return reply, int(acknowledged)

    async def _follow(self, command: tuple[bytes | str | float, ...], wait: Wait | None) -> Any:
        slot = slot_of(command)
        address = self.owner(slot)
        asking = False
        for attempt in range(1, MAX_REDIRECTIONS + 1):
            try:
                return await self._ask(address, command, asking=asking, wait=wait)
            except ReplyError as error:
                match error.code:
                    case "MOVED":
                        address, asking = redirection(str(error), address), False
                        self._counters.add("cluster_redirections")
                        self.refresh_soon()
                    case "ASK":
                        address, asking = redirection(str(error), address), True
                    case "TRYAGAIN":
                        await asyncio.sleep(Backoff().delay_seconds(attempt, random.random))
                    case _:
                        if error.code in {"CLUSTERDOWN", "READONLY"}:
                            self.refresh_soon()
                        raise
            except BusUnavailableError:
                # The node may be gone for good and another serve its slots: the next call should know.
                self.refresh_soon()
                raise
        raise BusUnavailableError(f"still redirected after {MAX_REDIRECTIONS} redirections")

    def owner(self, slot: int | None) -> Address:
        """The node for a slot, or any node. Raises BusUnavailableError when no node serves it."""
        known = self.map
        if known is None or not known.owners:
            raise BusUnavailableError("the cluster's slots are not known yet")
        if slot is None:
            return known.owners[0]
        owner = known.owner(slot)
        if owner is None:
            self.refresh_soon()
            raise BusUnavailableError(f"no node of the cluster serves slot {slot}")
        return owner

    async def refresh(self) -> None:
        """Read the map again, from whichever node answers. Raises BusUnavailableError."""
        failure: BusUnavailableError | None = None
        known = self.map.addresses if self.map is not None else frozenset()
        left = [*known, *(seed for seed in self._seeds if seed not in known)]
        asked: dict[asyncio.Task[Any], Address] = {}
        try:
            while left or asked:
                if left:
                    address = left.pop(0)
                    asked[asyncio.create_task(self._ask(address, ("CLUSTER", "SLOTS"), asking=False))] = address
                # A node that hangs is not waited for while there is another to ask.
                answered, _ = await asyncio.wait(
                    asked, timeout=NEXT_NODE_SECONDS if left else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in answered:
                    address = asked.pop(task)
                    try:
                        reply = task.result()
                    except BusClosedError:
                        raise
                    except BusUnavailableError as error:
                        failure = error
                        continue
                    if reply:
                        self._take_map(slot_map(reply, address))
                        return
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise failure or BusUnavailableError("no node of the cluster knows its slots")

    def refresh_soon(self) -> None:
        if self._refreshing is None and not self._closed:
            self._refreshing = asyncio.create_task(self._refresh_quietly(), name=f"cluster:{self._name}")

    async def aclose(self) -> None:
        self._closed = True
        tasks = [task for task in (self._refreshing, self._going_home, *self._opening.values()) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for connection in self._connections.values():
            await connection.aclose()
        self._connections.clear()

    async def _refresh_quietly(self) -> None:
        try:
            await self.refresh()
        except BusUnavailableError as error:
            logger.warning("%s: the cluster's slots could not be read: %s", self._name, error)
        finally:
            self._refreshing = None

    def _take_map(self, found: SlotMap) -> None:
        self.map = found
        for address in [
            known for known in self._connections if known not in found.addresses and known not in self._seeds
        ]:
            connection = self._connections.pop(address)
            asyncio.get_running_loop().create_task(connection.aclose())
        if self._home_slot is not None and found.owner(self._home_slot) != self._home:
            self._go_home()

    def _go_home(self) -> None:
        if self._going_home is None and not self._closed:
            self._going_home = asyncio.create_task(self._seek_home(), name=f"cluster:{self._name}:home")

    async def _seek_home(self) -> None:
        """Until it is there: nobody else may have anything to ask that node, and see that it is another by now."""
        backoff = self._backoff or Backoff()
        try:
            for attempt in itertools.count(1):
                try:
                    home = self.owner(self._home_slot)
                    connection = await (self._connections.get(home) or await self._open(home)).wait_connected()
                except BusUnavailableError as error:
                    logger.debug("%s: the node that is home does not answer: %s", self._name, error)
                    await asyncio.sleep(backoff.delay_seconds(attempt, random.random))
                    with suppress(BusUnavailableError):
                        await self.refresh()
                else:
                    if home != self._home:
                        self._connected(home, connection)
                    return
        except BusClosedError:
            return
        finally:
            self._going_home = None

    def _connected(self, address: Address, connection: Connection) -> None:
        known = self.map
        if self._on_home is None or self._home_slot is None or known is None or known.owner(self._home_slot) != address:
            return
        self._home = address
        self._on_home(connection)
        connection.lost.add_done_callback(self._lost_home)

    def _lost_home(self, _: object) -> None:
        self._home = None
        self._go_home()

    async def _ask(
        self, address: Address, command: tuple[bytes | str | float, ...], *, asking: bool, wait: Wait | None = None
    ) -> Any:
        connection = self._connections.get(address) or await self._open(address)
        if not asking:
            if wait is not None:
                return await connection.replicated(wait[1], wait[2], *command)
            return await connection.command(*command)
        # In one turn of the loop: no other command comes between them.
        connected = await connection.wait_connected()
        connected.send("ASKING").add_done_callback(_retrieve)
        if wait is None:
            return await connected.send(*command)
        return await asyncio.gather(connected.send(*command), connected.send(*wait))

    async def _open(self, address: Address) -> SupervisedConnection:
        if self._closed:
            raise BusClosedError("the bus is closed")
        opening = self._opening.get(address)
        if opening is None:
            opening = self._opening[address] = asyncio.create_task(self._connect_to(address))
            opening.add_done_callback(lambda _: self._opening.pop(address, None))
        return await asyncio.shield(opening)

    async def _connect_to(self, address: Address) -> SupervisedConnection:
        connection = SupervisedConnection(
            self._dial_node(address),
            counters=self._counters,
            name=self._name,
            wait_seconds=self._wait_seconds,
            on_connect=partial(self._connected, address),
            backoff=self._backoff,
        )
        try:
            await connection.connect()
        except BusUnavailableError:
            await connection.aclose()
            raise
        self._connections[address] = connection
        return connection


class _Beside:
    def __init__(self, cluster: ClusterConnection, slot: int) -> None:
        self._cluster = cluster
        self._slot = slot

    async def command(self, *command: bytes | str | float) -> Any:
        return await self._cluster.command_at(self._slot, *command)

    async def aclose(self) -> None:
        """The cluster's connection is its owner's to close."""


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and isinstance(future.exception(), ConnectionLostError):
        logger.debug("the connection broke after ASKING")
