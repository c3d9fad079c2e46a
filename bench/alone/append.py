"""What an append costs Redis: append.lua in batches of so many events, beside plain XADDs of the same events.

All commands are pipelined over one connection, a thousand events ahead at most, round robin over the runs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable
from typing import Any, Final

from bench.accounting import cpu_seconds
from bench.load import event
from tailrace.bus.log.log import append_script
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.connection import Connection

CONTENDERS: Final = ("append.lua", "xadd")
_AHEAD_EVENTS: Final = 1000
_PRODUCER: Final = "bench"


class Appending:
    """append.lua as a publisher calls it, a producer an execution."""

    def __init__(self, link: Connection, runs: int) -> None:
        self._link = link
        self._script = append_script()
        self._keys = [Keys().of_execution(f"run-{run}") for run in range(runs)]
        self._seqs = [1] * runs
        kept = Retention()
        self._bounds = (
            *(kept.max_entries, kept.max_bytes, kept.live_seconds),
            *(kept.ended_seconds, kept.ended_state_seconds),
        )

    async def prepare(self) -> None:
        await self._link.send("SCRIPT", "LOAD", self._script.source)

    def send(self, run: int, events: list[list[bytes]]) -> list[Awaitable[Any]]:
        seq, keys = self._seqs[run], self._keys[run]
        self._seqs[run] += len(events)
        laid_out: list[bytes | int] = []
        for fields in events:
            laid_out += (len(fields), *fields)
        head = ("EVALSHA", self._script.digest, len(keys), *keys, _PRODUCER, seq, "")
        return [self._link.send(*head, *self._bounds, len(events), "", *laid_out)]


class Adding:
    """A plain XADD an event."""

    def __init__(self, link: Connection, runs: int) -> None:
        self._link = link
        self._keys = [Keys().log(f"run-{run}") for run in range(runs)]

    async def prepare(self) -> None:
        pass

    def send(self, run: int, events: list[list[bytes]]) -> list[Awaitable[Any]]:
        return [self._link.send("XADD", self._keys[run], "*", *fields) for fields in events]


async def main(order: dict[str, Any]) -> dict[str, float]:
    batch, runs, events = order["batch"], order["runs"], order["events"]
    link = await Connection.open(dial_of(f"redis://127.0.0.1:{order['redis_port']}/0"))
    way = (Appending if order["contender"] == "append.lua" else Adding)(link, runs)
    await way.prepare()
    ts = event.timestamp(time.time())
    made = [[b"t", b"bench.word", b"ts", ts, b"d", event.data(number, 1, number)] for number in range(batch)]

    async def sent(count: int) -> None:
        asked: list[Awaitable[Any]] = []
        for turn in range(count // batch):
            asked += way.send(turn % runs, made)
            if len(asked) * batch >= _AHEAD_EVENTS:
                await asyncio.gather(*asked)
                asked.clear()
        await asyncio.gather(*asked)

    await sent(runs * batch)
    redis_seconds, clock = cpu_seconds(order["redis_pid"]), time.perf_counter()
    await sent(events)
    clock = time.perf_counter() - clock
    redis_seconds = cpu_seconds(order["redis_pid"]) - redis_seconds
    return {"redis_us_per_event": redis_seconds / events * 1e6, "events_per_second": events / clock}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
