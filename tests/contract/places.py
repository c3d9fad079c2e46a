"""Where a tail can run: each implementation on each server, and what writes to its streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from tailrace.bus.deployment import Standalone
from tailrace.bus.log.log import Log
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START, Cursor, from_id
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.commands import Commands
from tailrace.bus.tail.blocking import BlockingTail
from tailrace.bus.tail.watch import Tail, Watch
from tests.contract.fake_commands import FakeCommands
from tests.contract.recorder import Recorder

Mode = Literal["tracking", "blocking"]
Backend = Literal["valkey", "redis", "fakeredis"]

EVERYWHERE: Final[list[tuple[Mode, Backend]]] = [
    ("tracking", "valkey"),
    ("tracking", "redis"),
    ("blocking", "valkey"),
    ("blocking", "redis"),
    ("blocking", "fakeredis"),
]
ON_SERVERS: Final = EVERYWHERE[:4]


@dataclass
class Place:
    tail: Tail
    commands: Commands
    keys: Keys
    counters: Counters
    log: Log = field(init=False)

    def __post_init__(self) -> None:
        self.log = Log(self.commands, self.keys, counters=self.counters, retention=Retention())

    async def append(self, run: str, count: int = 1) -> Cursor:
        """By the script, as our publishers do."""
        return (await self.log.append(run, [[b"t", b"a", b"d", b"1"]] * count)).last

    async def plain_xadd(self, run: str) -> Cursor:
        """As a stranger does."""
        return from_id(await self.commands.command("XADD", self.keys.log(run), "*", "t", "x", "d", "1"))

    async def ids(self, run: str) -> list[Cursor]:
        return [from_id(entry[0]) for entry in await self.commands.command("XRANGE", self.keys.log(run), "-", "+")]

    def watch(self, run: str, recorder: Recorder, cursor: Cursor = START) -> Watch:
        return self.tail.watch(self.keys.log(run), cursor, recorder)


@asynccontextmanager
async def open_place(mode: Mode, url: str | None, prefix: str) -> AsyncIterator[Place]:
    """Without a URL on fakeredis."""
    counters = Counters()
    commands: Commands
    if url is None:
        commands = fake = FakeCommands()

        async def connect() -> Commands:
            return FakeCommands(fake.server)

        tail: Tail = BlockingTail(connect, fake, counters=counters)
    else:
        deployment = Standalone(dial_of(url), counters)
        commands = await deployment.open_line("redis")
        tail = await deployment.open_tail(commands, mode)
    assert tail.mode == mode
    try:
        yield Place(tail, commands, Keys(prefix), counters)
    finally:
        await tail.aclose()
        await commands.aclose()
