"""The promise G1, with everything that can be done to it at once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
import redis
import redis.asyncio

from tailrace.bus.model.cursor import from_id
from tailrace.bus.model.keys import Keys
from tests.e2e.followers import Follower
from tests.e2e.publishing import Order, PublisherProcess, event_of
from tests.e2e.sse_client import open_stream
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EVENTS = 100_000
RUNS = 50
CLIENTS = 100
PUBLISHERS = 2
PUBLISH_SECONDS = 15.0
DEADLINE_SECONDS = 90.0


async def test_a_hundred_clients_cut_at_random_on_two_gateways_get_exactly_the_log_of_100000_events(
    server_url: str, prefix: str
) -> None:
    seed = int(os.environ.get("TAILRACE_TEST_SEED", random.SystemRandom().getrandbits(32)))
    print(f"replay with TAILRACE_TEST_SEED={seed}")
    chance = random.Random(seed)
    runs = [f"run-{number}" for number in range(RUNS)]
    keys = [Keys(prefix).log(run) for run in runs]
    async with redis.asyncio.Redis.from_url(server_url) as client, AsyncExitStack() as stack:
        # The second one's memory is so short that whoever lags, or comes back, reads the log itself.
        steady = stack.enter_context(GatewayProcess(redis_url=server_url, prefix=prefix))
        mortal = stack.enter_context(GatewayProcess(redis_url=server_url, prefix=prefix, ring_entries="32"))
        urls = [steady.url(), mortal.url()]
        orders = [
            Order(
                redis_url=server_url,
                prefix=prefix,
                runs=runs[number::PUBLISHERS],
                events_a_run=EVENTS // RUNS,
                seconds=PUBLISH_SECONDS,
                seed=seed,
            )
            for number in range(PUBLISHERS)
        ]
        publishers = [stack.enter_context(PublisherProcess(order)) for order in orders]
        await all_exist(client, keys)
        followers = [a_follower(number, runs, urls, chance) for number in range(CLIENTS)]
        async with asyncio.timeout(patient(DEADLINE_SECONDS)), asyncio.TaskGroup() as group:
            for follower in followers:
                group.create_task(follower.follow())
            # Half way through what is to be published, not through some time: the machine may be slow.
            await appended(client, keys, EVENTS // 2)
            mortal.signal(signal.SIGKILL)
            await asyncio.to_thread(mortal.wait)
            port = str(urlsplit(urls[1]).port)
            again = stack.enter_context(
                GatewayProcess(redis_url=server_url, prefix=prefix, port=port, ring_entries="32")
            )
            assert await asyncio.to_thread(again.url) == urls[1]
        for publisher in publishers:
            await asyncio.to_thread(publisher.wait, 20.0)
        logs = {run: read_log(server_url, prefix, run) for run in runs}
        for run in runs:
            assert_log_is_what_was_meant(run, logs[run])
        for follower in followers:
            assert_exactly_the_log(follower, logs[follower.run])
            async with open_stream(chance.choice(urls), follower.run, after=follower.last_id) as stream:
                assert stream.status == 204
    connections = sum(follower.connections for follower in followers)
    in_mid_frame = sum(follower.cuts_in_mid_frame for follower in followers)
    broken = sum(follower.refusals for follower in followers)
    print(f"{connections} connections, {in_mid_frame} cut in the middle of a frame, {broken} broken or refused")
    # Otherwise it was no test of what it says.
    assert connections > 5 * CLIENTS
    assert in_mid_frame > CLIENTS


def a_follower(number: int, runs: list[str], urls: list[str], chance: random.Random) -> Follower:
    kind = number % 5
    return Follower(
        # Each run has viewers, and some have many.
        run=runs[number] if number < RUNS else chance.choice(runs[:10]),
        urls=urls,
        chance=random.Random(chance.getrandbits(32)),
        cut_after_bytes=lambda own: None if own.random() < 0.1 else int(own.expovariate(1 / 30_000)) + 1,
        query=(
            {"types": "custom.*"}
            if kind == 1
            else {"types": "log", "coalesce_ms": "30"}
            if kind == 2
            else {"coalesce_ms": "50"}
            if kind == 3
            else {}
        ),
        receive_buffer_bytes=4096 if number % 4 == 0 else None,
        pause_seconds=1.5 if number % 4 == 0 else 0.0,
    )


async def all_exist(client: redis.asyncio.Redis, keys: list[str]) -> None:
    async def exist() -> bool:
        """all runs have begun"""
        return bool(await client.exists(*keys) == len(keys))

    await eventually(exist)


async def appended(client: redis.asyncio.Redis, keys: list[str], enough: int) -> None:
    async def so_many() -> bool:
        """half of the events are published"""
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.xlen(key)
        return bool(sum(await pipeline.execute()) >= enough)

    await eventually(so_many, seconds=DEADLINE_SECONDS)


def read_log(server_url: str, prefix: str, run: str) -> list[tuple[str, str, Any]]:
    with redis.Redis.from_url(server_url) as client:
        raw: Any = client.xrange(Keys(prefix).log(run))
    return [
        (entry_id.decode(), fields[b"t"].decode(), orjson.loads(fields.get(b"d", b"null"))) for entry_id, fields in raw
    ]


def assert_log_is_what_was_meant(run: str, log: list[tuple[str, str, Any]]) -> None:
    events = EVENTS // RUNS
    assert [from_id(entry_id.encode()).n for entry_id, _, _ in log] == list(range(1, events + 3))
    assert log[0][1] == "execution.started"
    assert log[-1][1] == "execution.completed"
    assert [(kind, data) for _, kind, data in log[1:-1]] == [event_of(run, k) for k in range(events)]


def assert_exactly_the_log(follower: Follower, log: list[tuple[str, str, Any]]) -> None:
    pattern = follower.query.get("types")
    expected = [
        entry
        for entry in log
        if pattern is None
        or entry[1] == pattern
        or (pattern.endswith(".*") and entry[1].startswith(pattern[:-1]))
        or entry is log[-1]
    ]
    assert follower.ended is not None
    assert follower.gaps == []
    assert follower.ids == [entry_id for entry_id, _, _ in expected]
    assert follower.events == expected
    assert follower.last_id == log[-1][0]
