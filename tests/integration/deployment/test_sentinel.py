"""The bus behind a real Sentinel: the primary dies, its replica is promoted, everybody finds it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tailrace.bus import Entry, InvalidInputError, open_bus
from tailrace.bus.redis.address import parse_url, redacted
from tests.integration.deployment.clusters import wait_until
from tests.patience import patient
from tests.servers import RunningServer, find_binary, free_port, spawn_server

pytestmark = pytest.mark.anyio


@contextmanager
def sentinel(directory: Path, primary: RunningServer) -> Iterator[int]:
    """Watch a primary as 'events'; gives the sentinel's port."""
    port = free_port()
    config = directory / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
        f"sentinel monitor events 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds events 1000\nsentinel failover-timeout events 5000\n"
    )
    process = subprocess.Popen(
        [str(find_binary("valkey")), str(config), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with redis.Redis(port=port) as client:
            wait_until("the sentinel answers", lambda: _answers(client))
            wait_until("the replica is known", lambda: len(client.sentinel_slaves("events")) == 1)
            yield port
    finally:
        process.terminate()
        process.wait(patient(20))


async def test_case_23_a_promoted_replica_is_found_and_nothing_is_lost_or_doubled(tmp_path: Path, prefix: str) -> None:
    """Source: redis 6794, trigger.dev 3549. READONLY and broken connections are retried until Sentinel has chosen."""
    folders = [tmp_path / name for name in ("primary", "replica", "sentinel")]
    for folder in folders:
        folder.mkdir()
    with (
        spawn_server("valkey", directory=folders[0], port=0) as primary,
        spawn_server(
            "valkey", directory=folders[1], port=0, extra=("--replicaof", f"127.0.0.1 {primary.port}")
        ) as replica,
        sentinel(folders[2], primary) as port,
    ):
        with redis.Redis(port=replica.port or 0) as client:
            wait_until("the replica is in step", lambda: client.info("replication")["master_link_status"] == "up")
        async with await open_bus(f"redis+sentinel://127.0.0.1:{port}/events") as bus:
            seen: list[int] = []

            async def follow() -> None:
                async for item in bus.follow(prefix):
                    assert isinstance(item, Entry), item
                    seen.append(item.cursor.n)

            follower = asyncio.create_task(follow())
            publisher = bus.publisher(prefix)
            for number in range(100):
                await publisher.append("custom.tick", {"number": number})
            with redis.Redis(port=primary.port or 0) as client:
                assert client.wait(1, 5000) == 1
            primary.kill()
            for number in range(100, 200):
                await publisher.append("custom.tick", {"number": number})
            await publisher.append("execution.completed", {})
            await asyncio.wait_for(follower, patient(30))
            assert seen == list(range(1, 202))
            await publisher.aclose()


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://h:1", "redis+sentinel://h:1/x/y", "redis+sentinel:///x", "redis+cluster://h:p", "http://x"],
)
def test_a_url_that_cannot_be_used_is_refused_by_name_of_its_field(url: str) -> None:
    with pytest.raises(InvalidInputError, match="redis_url"):
        parse_url(url)


def test_passwords_are_not_shown() -> None:
    assert redacted("redis+cluster://me:secret@a:1,b:2/?x=y") == "redis+cluster://me:***@a:1,b:2/?x=y"


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
