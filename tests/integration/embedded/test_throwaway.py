from __future__ import annotations

import signal
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from redis.asyncio import Redis

from tailrace.bus.embedded import start_embedded
from tests.integration.embedded.processes import (
    is_alive,
    parent_pid,
    server_pid,
    wait_until,
    zombie_children,
)
from tests.integration.embedded.user import User

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]


async def test_two_opens_in_one_process_share_one_throwaway_server() -> None:
    async with await start_embedded(None) as first, await start_embedded(None) as second:
        assert first.url == second.url
        async with Redis.from_url(first.url) as writer, Redis.from_url(second.url) as reader:
            await writer.set("shared", "yes")
            assert await reader.get("shared") == b"yes"


async def test_two_processes_do_not_share_a_throwaway_server() -> None:
    async with await start_embedded(None) as ours:
        with User() as other:
            assert other.ask("open") != ours.url


async def test_a_throwaway_server_keeps_nothing_on_disk_and_evicts_nothing() -> None:
    async with await start_embedded(None) as server, Redis.from_url(server.url) as client:
        config = await client.config_get("appendonly", "save", "maxmemory-policy", "protected-mode", "port")
    assert config == {
        "appendonly": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "protected-mode": "yes",
        "port": "0",
    }


async def test_the_last_close_takes_server_and_directory_away_and_leaves_no_zombie() -> None:
    first, second = await start_embedded(None), await start_embedded(None)
    pid = server_pid(first.url)
    supervisor = parent_pid(pid)
    await first.close()
    await first.close()
    assert is_alive(pid)
    assert server_pid(second.url) == pid
    await second.close()
    assert not is_alive(pid)
    assert not second.directory.exists()
    wait_until(lambda: not is_alive(supervisor))
    assert not zombie_children()


async def test_an_open_after_the_last_close_gets_a_new_and_empty_server() -> None:
    async with await start_embedded(None) as server, Redis.from_url(server.url) as client:
        await client.set("old", "yes")
        old_directory = server.directory
    async with await start_embedded(None) as server, Redis.from_url(server.url) as client:
        assert server.directory != old_directory
        assert await client.dbsize() == 0


@pytest.mark.parametrize("end", ["exit", "kill"])
async def test_a_throwaway_server_goes_with_its_owner_however_that_ends(end: str) -> None:
    with User() as owner:
        url = owner.ask("open")
        pid = server_pid(url)
        supervisor = parent_pid(pid)
        directory = Path(unquote(urlsplit(url).path)).parent
        assert directory.is_dir()
        if end == "kill":
            owner.signal(signal.SIGKILL)
        else:
            owner.tell("exit")
        owner.wait()
    wait_until(lambda: not is_alive(pid) and not is_alive(supervisor) and not directory.exists(), seconds=5)
