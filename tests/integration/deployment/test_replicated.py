"""Appends that return when a replica has them (``TAILRACE_REPLICAS``), on a real primary with a real replica."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from tailrace.bus import Bus, BusSettings, Entry, open_bus
from tests.e2e.waiting import eventually
from tests.integration.deployment.clusters import cluster, wait_until
from tests.patience import patient
from tests.servers import RunningServer, free_port, spawn_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RunningServer, RunningServer]]:
    (tmp_path / "primary").mkdir()
    (tmp_path / "replica").mkdir()
    with spawn_server("valkey", directory=tmp_path / "primary", port=free_port()) as primary:
        options = ("--replicaof", "127.0.0.1", str(primary.port))
        with spawn_server("valkey", directory=tmp_path / "replica", port=free_port(), extra=options) as replica:
            with redis.Redis(port=replica.port or 0, decode_responses=True) as client:
                wait_until("in step", lambda: client.info("replication")["master_link_status"] == "up")
            yield primary, replica


async def opened(url: str, prefix: str) -> Bus:
    return await open_bus(url, settings=BusSettings(prefix=prefix, replicas=1))


async def test_what_was_appended_is_on_the_replica_when_the_append_returns(
    pair: tuple[RunningServer, RunningServer], prefix: str
) -> None:
    primary, replica = pair
    with redis.Redis(port=replica.port or 0) as client:
        async with await opened(primary.url, prefix) as bus, bus.execution(prefix) as execution:
            for number in range(50):
                cursor = await execution.append("custom.n", {"n": number})
                assert client.xrange(bus.keys.log(prefix), str(cursor), str(cursor)), number


async def test_an_append_that_no_replica_has_is_tried_again_until_one_has_it_and_is_there_once(
    pair: tuple[RunningServer, RunningServer], prefix: str
) -> None:
    """Its connection dies meanwhile: the one that repeats it has written nothing, and must not take that for done."""
    primary, replica = pair
    async with await opened(primary.url, prefix) as bus:
        publisher = bus.publisher(prefix)
        await publisher.append("custom.n", {"n": 1})
        replica.pause()
        try:
            appending = asyncio.create_task(publisher.append("custom.n", {"n": 2}))
            await eventually(lambda: _has(bus.counters["appends_unreplicated"] >= 1))
            with redis.Redis(port=primary.port or 0) as client:
                client.client_kill_filter(_type="normal", skipme=True)
            count = bus.counters["appends_unreplicated"]
            await eventually(lambda: _has(bus.counters["appends_unreplicated"] > count))
            assert not appending.done()
        finally:
            replica.resume()
        async with asyncio.timeout(patient(20)):
            await appending
            await publisher.append("execution.completed")
        items = [item async for item in bus.follow(prefix)]
        assert [item.data["n"] for item in items[:-1] if isinstance(item, Entry)] == [1, 2]
        await publisher.aclose()


async def test_a_process_that_asks_for_no_replica_does_not_wait_for_one(
    pair: tuple[RunningServer, RunningServer], prefix: str
) -> None:
    primary, replica = pair
    replica.pause()
    try:
        async with await open_bus(primary.url, settings=BusSettings(prefix=prefix)) as bus:
            async with asyncio.timeout(patient(5)), bus.execution(prefix) as execution:
                await execution.append("custom.n", {"n": 1})
            assert bus.counters["appends_unreplicated"] == 0
    finally:
        replica.resume()


async def test_on_a_cluster_it_is_the_replica_of_the_node_that_has_the_log(tmp_path: Path, prefix: str) -> None:
    with cluster(tmp_path, replicas=3) as made:
        async with await opened(made.url, prefix) as bus:
            for number in range(6):
                async with bus.execution(f"{prefix}-{number}") as execution:
                    cursor = await execution.append("custom.n", {"n": number})
                key = bus.keys.log(f"{prefix}-{number}")
                there = 0
                for index in range(6):
                    with made.client(index) as client:
                        client.execute_command("READONLY")
                        with suppress(redis.exceptions.MovedError):
                            there += bool(client.xrange(key, str(cursor), str(cursor)))
                assert there == 2, number


async def _has(what: bool) -> bool:
    return what
