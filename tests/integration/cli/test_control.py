"""``tailrace cancel``, ``pause``, ``resume`` and ``signal``: the same over a gateway and over Redis itself."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, Entry, Execution, open_bus
from tests.e2e.waiting import eventually
from tests.integration.cli.conftest import Site, start_gateway, url_of
from tests.integration.cli.processes import call, family
from tests.patience import patient
from tests.servers import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["gateway", "redis"])
def way(request: pytest.FixtureRequest, site: Site) -> tuple[str, ...]:
    return ("--gateway", site.gateway) if request.param == "gateway" else ("--redis-url", site.redis_url)


@pytest.fixture
async def bus(site: Site) -> AsyncGenerator[Bus, None]:
    settings = BusSettings(prefix=site.env["TAILRACE_PREFIX"])
    async with await open_bus(site.redis_url, settings=settings) as opened:
        yield opened


@pytest.fixture
def execution_id() -> str:
    return f"x{uuid4().hex[:8]}"


async def tailrace(site: Site, *arguments: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(call, *arguments, env=site.env)
    return done.returncode, done.stdout, done.stderr


async def run_until_cancelled(bus: Bus, execution_id: str, entered: asyncio.Event) -> None:
    async with bus.execution(execution_id):
        entered.set()
        await asyncio.sleep(600)


async def test_what_is_queued_is_cancelled_at_once(
    site: Site, way: tuple[str, ...], bus: Bus, execution_id: str
) -> None:
    await bus.submit("nothing", execution_id=execution_id, queue="nobody")
    code, out, err = await tailrace(site, "cancel", execution_id, "--reason", "wrong input", *way)

    assert (code, out, err) == (0, f"{execution_id}: cancelled\n", "")
    events = [entry async for entry in bus.follow(execution_id)]
    assert isinstance(events[-2], Entry)
    requested = events[-2].data
    assert requested["reason"] == "wrong input"
    assert "@" in requested["by"]


async def test_what_runs_is_cancelled_and_the_outcome_awaited(
    site: Site, way: tuple[str, ...], bus: Bus, execution_id: str
) -> None:
    entered = asyncio.Event()
    running = asyncio.create_task(run_until_cancelled(bus, execution_id, entered))
    await entered.wait()
    code, out, _ = await tailrace(site, "cancel", execution_id, "--wait", "30", "--json", *way)
    answer = json.loads(out)

    assert (code, answer["execution_id"], answer["status"]) == (0, execution_id, "cancelled")
    assert answer["outcome"]["type"] == "execution.cancelled"
    assert answer["request"]
    await asyncio.wait([running], timeout=patient(10))
    assert running.done()


async def test_a_run_is_paused_resumed_and_signalled(
    site: Site, way: tuple[str, ...], bus: Bus, execution_id: str
) -> None:
    async with bus.execution(execution_id) as execution:
        talking = asyncio.create_task(talk(execution))
        paused = await tailrace(site, "pause", execution_id, "--wait", "30", *way)
        resumed = await tailrace(site, "resume", execution_id, "--wait", "30", *way)
        asked = await tailrace(site, "signal", execution_id, "answer", '{"score": 0.9}', "--wait", "30", "--json", *way)
        given = await asyncio.wait_for(execution.signal("answer"), patient(30))
        talking.cancel()

    assert paused == (0, f"{execution_id}: paused\n", "")
    assert resumed == (0, f"{execution_id}: running\n", "")
    assert (asked[0], json.loads(asked[1])["outcome"]["type"]) == (0, "execution.signalled")
    assert (given.name, given.data) == ("answer", {"score": 0.9})


async def talk(execution: Execution) -> None:
    """A body that says something now and then, where it can be paused."""
    while True:
        await execution.emit("log", {"text": "working"})
        await asyncio.sleep(0.05)


async def test_what_nobody_answers_in_time_is_exit_code_7_and_still_stands(
    site: Site, way: tuple[str, ...], bus: Bus, execution_id: str
) -> None:
    await bus.submit("nothing", execution_id=execution_id, queue="nobody")
    late = await tailrace(site, "signal", execution_id, "go", "--wait", "0.5", *way)
    at_once = await tailrace(site, "signal", execution_id, "go", *way)
    shown = await tailrace(site, "show", execution_id, *way)

    assert (late[0], late[1]) == (7, "")
    assert "was not answered in 0.5 s, but it still stands" in late[2]
    assert at_once[0] == 0
    assert "queued; asked as " in at_once[1]
    assert "not answered yet" in at_once[1]
    assert shown[1].count("NOT ANSWERED YET") == 2


async def test_what_has_ended_can_be_asked_nothing(
    site: Site, way: tuple[str, ...], bus: Bus, execution_id: str
) -> None:
    async with bus.execution(execution_id):
        pass
    for words in (("cancel",), ("pause",), ("resume",), ("signal",)):
        name = ("go",) if words == ("signal",) else ()
        code, out, err = await tailrace(site, *words, execution_id, *name, *way)
        assert (code, out) == (6, ""), words
        assert "has ended" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["cancel", "pause", "resume", "signal"])
async def test_nobody_is_exit_code_5(site: Site, way: tuple[str, ...], command: str) -> None:
    code, out, err = await tailrace(site, command, "nobody", *(("go",) if command == "signal" else ()), *way)
    assert (code, out) == (5, "")
    assert "no execution nobody" in err


async def test_the_next_gateway_is_asked_where_one_is_gone(site: Site, bus: Bus, execution_id: str) -> None:
    await bus.submit("nothing", execution_id=execution_id, queue="nobody")
    gone = ("--gateway", f"http://127.0.0.1:{free_port()}")
    there = ("--gateway", site.gateway)
    signalled = await tailrace(site, "signal", execution_id, "go", *gone, *there)
    cancelled = await tailrace(site, "cancel", execution_id, *gone, *there)
    requests: list[Any] = [entry async for entry in bus.follow(execution_id)]

    assert (signalled[0], cancelled[0]) == (0, 0)
    assert [entry.type for entry in requests] == [
        "execution.queued",
        "execution.signal_requested",
        "execution.cancel_requested",
        "execution.cancelled",
    ]


async def test_a_gateway_that_dies_while_one_waits_does_not_matter(
    site: Site, bus: Bus, execution_id: str, server_url: str, tmp_path: Path
) -> None:
    await bus.submit("nothing", execution_id=execution_id, queue="nobody")
    with ExitStack() as stack:
        doomed = start_gateway(stack, tmp_path / "doomed", server_url, site.env)
        ways = ("--gateway", url_of(doomed), "--gateway", site.gateway)
        arguments = ("signal", execution_id, "go", "--wait", "60", *ways)
        waiting = stack.enter_context(family(tmp_path / "waiting", *arguments))
        subscribers = f"{url_of(doomed)}/v1/executions/{execution_id}/subscribers"

        async def it_waits() -> bool:
            """The request has been answered, and a long-poll has begun."""
            async with httpx.AsyncClient() as client:
                return bool((await client.get(subscribers)).json()["subscribers"])

        await eventually(it_waits, seconds=30)
        doomed.signal(signal.SIGKILL)
        doomed.wait()
        async with bus.execution(execution_id) as execution:
            await execution.signal("go")
            code = await asyncio.to_thread(waiting.wait)
    assert (code, waiting.said) == (0, f"{execution_id}: running\n")
