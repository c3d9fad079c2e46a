"""Who watches what, over all gateways, right within ``BELIEVED_SECONDS`` after one of them was killed.

Each gateway keeps three hashes, its connections, its viewers per execution and its connections per subject and address,
and says every few seconds that it lives.
Only what changed is written, so that thousands of idle viewers cost nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from tailrace.bus import Bus, BusError, BusUnavailableError
from tailrace.bus.model import fields
from tailrace.bus.model.cursor import START
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.redis.commands import server_ms
from tailrace.bus.redis.script import EXPIRING
from tailrace.bus.tail.watch import Watch
from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.presence.live_connections import LiveConnections
from tailrace.gateway.presence.record import Record, parse_record, record_of

logger = logging.getLogger(__name__)

EXPIRY_SECONDS: Final = 0.5
REFRESH_SECONDS: Final = 4.0
BELIEVED_SECONDS: Final = 12.0
# What a gateway that was killed leaves behind goes by itself.
KEPT_SECONDS: Final = 60
MAX_FIELDS: Final = 500
MAX_ORDERS: Final = 1000


@dataclass(frozen=True, slots=True)
class PresentClient:
    """``id`` is ``GATEWAY:NUMBER``."""

    id: str
    gateway: str
    record: Record


@dataclass(frozen=True, slots=True)
class Subscribers:
    """How many viewers an execution has, and on which gateways."""

    total: int
    by_gateway: Mapping[str, int]


class Presence:
    def __init__(
        self, bus: Bus, viewers: Callable[[], Mapping[str, int]], holders: Callable[[], Mapping[str, int]]
    ) -> None:
        """``viewers`` gives how many viewers each execution has here, ``holders`` who has how many connections."""
        self.gateway = bus.name
        self.connections = LiveConnections(int(time.time()))
        self._bus = bus
        self._viewers = viewers
        self._holders = holders
        self._counted: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._others: list[str] = []
        self._unsure = False

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Write down who is here, and obey orders to disconnect, until left; then leave nothing behind."""
        orders = _Orders(self)
        tail = await self._bus.tail()
        orders.watch = watch = tail.watch(self._bus.keys.gateway_orders(self.gateway), START, orders)
        tasks = [
            asyncio.create_task(self._write_on(), name="presence:write"),
            asyncio.create_task(self._end_expired(), name="presence:expiry"),
        ]
        try:
            yield
        finally:
            watch.close()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._take_leave()

    async def subscribers(self, execution_id: str) -> Subscribers:
        """Raises BusUnavailableError."""
        here = self._viewers().get(execution_id, 0)
        by_gateway = {self.gateway: here} if here else {}
        others = [name for name in await self._alive() if name != self.gateway]
        counts = await asyncio.gather(
            *(self._command("HGET", self._bus.keys.gateway_viewers(name), execution_id) for name in others)
        )
        for name, count in zip(others, counts, strict=True):
            if viewers := fields.number(count):
                by_gateway[name] = viewers
        return Subscribers(sum(by_gateway.values()), by_gateway)

    async def held_elsewhere(self, holders: Sequence[str]) -> dict[str, int]:
        """How many connections these have on all other gateways, as of some seconds ago; none while Redis is away."""
        sums = dict.fromkeys(holders, 0)
        if not (holders and self._others):
            return sums
        try:
            replies = await asyncio.gather(
                *(self._command("HMGET", self._bus.keys.gateway_holders(name), *holders) for name in self._others)
            )
        except BusUnavailableError:
            return sums
        for counts in replies:
            for holder, count in zip(holders, counts, strict=True):
                sums[holder] += fields.number(count) or 0
        return sums

    async def clients(self, wanted: Callable[[Record], bool]) -> list[PresentClient]:
        """All of them, ordered by gateway and by when they came. Raises BusUnavailableError."""
        tables = {self.gateway: {str(each.number): record_of(each) for each in self.connections}}
        others = [name for name in await self._alive() if name != self.gateway]
        replies = await asyncio.gather(
            *(self._command("HGETALL", self._bus.keys.gateway_clients(name)) for name in others)
        )
        for name, reply in zip(others, replies, strict=True):
            tables[name] = {number.decode(errors="replace"): raw for number, raw in reply.items()}
        found: list[PresentClient] = []
        for name in sorted(tables):
            numbers = sorted((number for number in tables[name] if fields.number(number) is not None), key=int)
            for number in numbers:
                record = parse_record(tables[name][number])
                if record is not None and wanted(record):
                    found.append(PresentClient(f"{name}:{number}", name, record))
        return found

    async def find(self, client_id: str) -> PresentClient | None:
        """Raises BusUnavailableError."""
        name, _, text = client_id.rpartition(":")
        number = fields.number(text)
        if number is None or name not in {self.gateway, *await self._alive()}:
            return None
        if name == self.gateway:
            here = self.connections.find(number)
            raw = None if here is None else record_of(here)
        else:
            raw = await self._command("HGET", self._bus.keys.gateway_clients(name), text)
        record = None if raw is None else parse_record(raw)
        return None if record is None else PresentClient(client_id, name, record)

    async def disconnect(self, client: PresentClient) -> None:
        """End a connection, here at once, elsewhere as soon as that gateway reads the order.

        Raises BusUnavailableError.
        """
        number = client.id.rpartition(":")[2]
        if client.gateway == self.gateway:
            self.connections.disconnect(int(number))
            return
        key = self._bus.keys.gateway_orders(client.gateway)
        order = ("MAXLEN", "~", MAX_ORDERS, "*", "disconnect", number)
        await EXPIRING.run(self._bus.commands, (key,), KEPT_SECONDS, "XADD", *order)

    async def write(self) -> None:
        """Say that we live, and write down what has changed. Raises BusUnavailableError."""
        keys = self._bus.keys
        if self._unsure:
            # What Redis has by now is not known.
            await self._command("DEL", keys.gateway_clients(self.gateway))
            await self._command("DEL", keys.gateway_viewers(self.gateway))
            await self._command("DEL", keys.gateway_holders(self.gateway))
            self._unsure = False
        await self._write_clients(keys.gateway_clients(self.gateway))
        self._counted = await self._write_counts(keys.gateway_viewers(self.gateway), self._viewers(), self._counted)
        self._held = await self._write_counts(keys.gateway_holders(self.gateway), self._holders(), self._held)
        now_ms = await server_ms(self._bus.commands)
        await self._command("ZADD", keys.gateways(), now_ms + BELIEVED_SECONDS * 1000, self.gateway)
        await self._command("ZREMRANGEBYSCORE", keys.gateways(), "-inf", now_ms - KEPT_SECONDS * 1000)
        await self._command("EXPIRE", keys.gateways(), KEPT_SECONDS)
        self._others = [name for name in await self._alive() if name != self.gateway]

    def end_where(self, is_revoked: Callable[[Principal], bool]) -> None:
        """End the connections here whose credentials have been revoked."""
        if ended := self.connections.end_where(is_revoked):
            self._bus.counters.add("ended_token_revoked", ended)

    async def _end_expired(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            try:
                if ended := self.connections.sweep(int(time.time())):
                    self._bus.counters.add("ended_token_expired", ended)
            except Exception:
                # Whatever it was: expiry must go on.
                logger.exception("ending connections with expired tokens failed; retrying")

    async def _write_on(self) -> None:
        told = False
        while True:
            try:
                await self.write()
                told = False
            except BusUnavailableError as error:
                self._unsure = True
                self._bus.counters.add("presence_write_failures")
                if not told:
                    told = True
                    logger.warning("presence could not be written: %s; retrying", error)
            await asyncio.sleep(REFRESH_SECONDS)

    async def _write_clients(self, key: str) -> None:
        if not await self._command("EXPIRE", key, KEPT_SECONDS):
            # Flushed, or expired while Redis was away; or there was nobody.
            self.connections.forget_told()
        changed, gone = self.connections.untold()
        # Some at a time: a gateway that was just started has thousands of them to tell.
        for start in range(0, len(changed), MAX_FIELDS):
            some = {str(each.number): record_of(each) for each in changed[start : start + MAX_FIELDS]}
            await self._write(key, some, ())
        await self._write(key, {}, list(map(str, gone)))

    async def _write_counts(self, key: str, counts: Mapping[str, int], told: Mapping[str, int]) -> dict[str, int]:
        """Gives what the others know now, of which ``told`` is what they knew before."""
        if not await self._command("EXPIRE", key, KEPT_SECONDS):
            told = {}
        now = {name: count for name, count in counts.items() if count}
        changed = {name: b"%d" % count for name, count in now.items() if told.get(name) != count}
        await self._write(key, changed, [name for name in told if name not in now])
        return now

    async def _write(self, key: str, changed: Mapping[str, bytes], gone: Sequence[str]) -> None:
        fields: Sequence[Any] = [part for pair in changed.items() for part in pair]
        for start in range(0, len(fields), 2 * MAX_FIELDS):
            some = fields[start : start + 2 * MAX_FIELDS]
            await EXPIRING.run(self._bus.commands, (key,), KEPT_SECONDS, "HSET", *some)
        for start in range(0, len(gone), MAX_FIELDS):
            await self._command("HDEL", key, *gone[start : start + MAX_FIELDS])

    async def _take_leave(self) -> None:
        keys = self._bus.keys
        try:
            await self._command("ZREM", keys.gateways(), self.gateway)
            for key in (keys.gateway_clients, keys.gateway_viewers, keys.gateway_holders, keys.gateway_orders):
                await self._command("DEL", key(self.gateway))
        except BusError as error:
            logger.debug("presence not taken away: %s", error)

    async def _alive(self) -> list[str]:
        now_ms = await server_ms(self._bus.commands)
        names = await self._command("ZRANGE", self._bus.keys.gateways(), now_ms, "+inf", "BYSCORE")
        return [name.decode(errors="replace") for name in names]

    async def _command(self, *command: bytes | str | float) -> Any:
        return await self._bus.commands.command(*command)


class _Orders:
    """Reads what other gateways ask of this one. Numbers are given once, so an order may be obeyed again."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self.watch: Watch | None = None

    def deliver(self, entries: Sequence[RawEntry]) -> None:
        for _, raw in entries:
            given = fields.number(dict(zip((raw or ())[::2], (raw or ())[1::2], strict=False)).get(b"disconnect"))
            if given is not None:
                self._presence.connections.disconnect(given)

    def disturbed(self, reason: str) -> None:
        if self.watch is not None and reason != "closed":
            self.watch.resume(START)
