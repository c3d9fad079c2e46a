"""Opening a bus: what can be wrong is told in one sentence, at once, without secrets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tailrace.bus import BusClosedError, BusUnavailableError, InvalidInputError, open_bus
from tests.patience import stretched
from tests.servers import RunningServer, free_port

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379", "redis//x", "file:///x", "redis://host:port"])
async def test_a_url_that_cannot_be_used_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^redis_url: "):
        await open_bus(url)


async def test_nobody_at_the_address_is_told_in_one_sentence_without_the_password() -> None:
    started = time.monotonic()
    with pytest.raises(BusUnavailableError) as caught:
        await open_bus(f"redis://user:secret@127.0.0.1:{free_port()}")
    assert time.monotonic() - started < stretched(6)
    assert "cannot reach Redis at redis://user:***@127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_no_socket_at_the_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(BusUnavailableError, match="cannot reach Redis at unix://"):
        await open_bus(f"unix://{tmp_path}/none.sock")


async def test_a_server_that_keeps_silent_is_given_up_in_seconds(fresh_server: RunningServer) -> None:
    fresh_server.pause()
    started = time.monotonic()
    with pytest.raises(BusUnavailableError, match="no answer"):
        await open_bus(fresh_server.url)
    assert time.monotonic() - started < stretched(8)


async def test_a_wrong_password_is_told_as_the_server_tells_it(fresh_server: RunningServer) -> None:
    async with await open_bus(fresh_server.url) as bus:
        await bus.commands.command("CONFIG", "SET", "requirepass", "right")
    with pytest.raises(BusUnavailableError, match=r"(?i)password|auth"):
        await open_bus(fresh_server.url.replace("unix://", "unix://:wrong@"))


async def test_a_closed_bus_says_so(each_server_url: str, prefix: str) -> None:
    bus = await open_bus(each_server_url)
    await bus.aclose()
    await bus.aclose()
    for refused in (bus.state("run"), bus.publisher("run").append("a"), anext(bus.follow("run"))):
        with pytest.raises(BusClosedError):
            await refused
