"""Reading replies on the hot path: redis-py's asyncio connection beside bus.link, on the tail's own pattern.

A turn of the tail asks n ready streams with one XREAD and gets one entry of each. Both contenders sit on the same
event loop and the same parser (hiredis), speak RESP3, and give raw bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvloop
from redis.asyncio import Connection as RedisConnection

from bench.load import event
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.connection import Connection

CONTENDERS: Final = ("bus-link", "redis-py")

Turn = Callable[[], Awaitable[Any]]


async def over_link(port: int, command: list[bytes]) -> Turn:
    link = await Connection.open(dial_of(f"redis://127.0.0.1:{port}/0"))
    return lambda: link.send(*command)


async def over_redis_py(port: int, command: list[bytes]) -> Turn:
    connection = RedisConnection(host="127.0.0.1", port=port, protocol=3)
    await connection.connect()  # type: ignore[no-untyped-call]

    async def turn() -> Any:
        await connection.send_command(*command)
        return await connection.read_response(disable_decoding=True)

    return turn


_WAYS: Final = dict(zip(CONTENDERS, (over_link, over_redis_py), strict=True))


async def main(order: dict[str, Any]) -> dict[str, float]:
    streams, entries = order["streams"], order["entries"]
    keys = [b"tr:{link-%d}:log" % number for number in range(streams)]
    setting_up = await Connection.open(dial_of(f"redis://127.0.0.1:{order['redis_port']}/0"))
    for key in keys:
        body = event.data(1, 1, 1)
        await setting_up.send(b"XADD", key, b"1-1", b"t", b"bench.word", b"ts", event.timestamp(0), b"d", body)
    command = [b"XREAD", b"COUNT", b"4", b"STREAMS", *keys, *[b"0"] * streams]
    turn = await _WAYS[order["contender"]](order["redis_port"], command)
    turns = entries // streams
    for _ in range(turns // 10):
        assert len(await turn()) == streams
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(turns):
        await turn()
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return {
        "us_per_entry": cpu / entries * 1e6,
        "us_per_turn": cpu / turns * 1e6,
        "entries_per_second": entries / clock,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(json.loads(sys.argv[1])))))
