"""A server that loads its data answers, but not what it is asked: everybody waits, and is told so."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError  # noqa: A004 - redis-py's own

from tailrace.bus import open_bus
from tailrace.bus.embedded import start_embedded
from tailrace.bus.embedded.layout import Layout, socket_url
from tests.integration.embedded.processes import processes_of, wait_until
from tests.patience import patient
from tests.servers import RunningServer, ServerKind, spawn_server

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30.0
KEYS = 12_000
# The server's own switches for its tests: each key takes 100 µs or more to load, and it answers in between.
DELAY = ("--key-load-delay", "100", "--loading-process-events-interval-bytes", "1024")


def write_data(directory: Path, keys: int = KEYS) -> None:
    """As a server with an append-only file leaves it behind."""
    kept = directory / "appendonlydir"
    kept.mkdir(parents=True)
    (kept / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    commands = (f"*3\r\n$3\r\nSET\r\n$9\r\nkey-{n:05}\r\n$100\r\n{'x' * 100}\r\n" for n in range(keys))
    (kept / "appendonly.aof.1.incr.aof").write_text("".join(commands))


@pytest.fixture
def slow_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose server takes more than a second to load it."""
    directory = tmp_path / "bus"
    write_data(directory)
    plain = Layout.command
    monkeypatch.setattr(Layout, "command", lambda *given, **options: (*plain(*given, **options), *DELAY))
    return directory


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tailrace.bus.redis.loading"]


async def test_attack_70_a_directory_that_loads_longer_than_the_start_may_take_is_opened_with_all_data(
    slow_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    first, second = await asyncio.gather(
        *(start_embedded(str(slow_directory), start_timeout_seconds=1) for _ in range(2))
    )
    assert loop.time() - began > 1.5, "it was loaded too quickly to show anything"
    async with first, second, Redis.from_url(first.url) as client:
        assert await client.dbsize() == KEYS
    assert re.search(
        rf"{re.escape(str(slow_directory))}: Redis is loading its data: \d+ % done, about", told(caplog)[0]
    )
    assert len(told(caplog)) <= 4, "a line every five seconds for each who waits"


async def test_attack_70_an_open_that_is_cancelled_while_the_server_loads_ends_at_once_and_leaves_nothing_running(
    slow_directory: Path,
) -> None:
    opening = asyncio.create_task(start_embedded(str(slow_directory)))
    await until_loading(socket_url(str(Layout(slow_directory).choose_socket())))
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.to_thread(wait_until, lambda: not processes_of(slow_directory))


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_attack_70_a_bus_waits_for_a_redis_that_loads_and_says_so(
    kind: ServerKind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # It answers now and then only, so a handshake takes most of a second.
    write_data(tmp_path, 2 * KEYS)
    with RunningServer(kind, directory=tmp_path, appendonly=True, port=None, extra=DELAY) as server:
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        await until_loading(server.url)
        async with await open_bus(server.url) as bus:
            assert await bus.commands.command("DBSIZE") == 2 * KEYS
        await starting
    assert re.search(r"unix:///.*: Redis is loading its data: \d+ % done, about \d+ s left; waiting", told(caplog)[0])


async def test_attack_70_a_command_that_meets_a_load_waits_as_with_an_outage(tmp_path: Path) -> None:
    """The server loads under a connection that stands, as a replica does after a full resync."""
    with spawn_server("valkey", directory=tmp_path, extra=("--enable-debug-command", "yes", *DELAY)) as server:
        async with await open_bus(server.url) as bus, Redis.from_url(server.url) as client:
            await client.execute_command("DEBUG", "POPULATE", "4000")  # type: ignore[no-untyped-call]
            reloading = asyncio.create_task(client.execute_command("DEBUG", "RELOAD"))  # type: ignore[no-untyped-call]
            await until_loading(server.url)
            assert await bus.commands.command("DBSIZE") == 4_000
            await reloading


async def until_loading(url: str) -> None:
    async with asyncio.timeout(patient(PATIENCE_SECONDS)):
        while True:
            with suppress(ConnectionError):
                async with Redis.from_url(url) as client:
                    if (await client.info("persistence"))["loading"]:
                        return
            await asyncio.sleep(0.01)
