"""``--processes``: several processes on one port, or of one worker, kept by a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.cli.processes.deaths import MAX_DEATHS
from tests.e2e.followers import Follower
from tests.e2e.logs import log_ids
from tests.e2e.sse_client import SseStream, open_stream
from tests.integration.cli.conftest import url_of
from tests.integration.cli.processes import Family, call, family, wait_until
from tests.patience import patient, stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

PIPELINES = """
from tailrace import Pipeline, Registry, Step

async def look(ctx, outputs):
    return {number}

registry = Registry([Pipeline("look", (Step("look", look),))])
"""


PREFIX = f"t{uuid4().hex[:8]}"


@pytest.fixture
async def bus(server_url: str) -> AsyncIterator[Bus]:
    async with await open_bus(server_url, settings=BusSettings(prefix=PREFIX)) as opened:
        yield opened


def two_gateways(output: Path, redis_url: str, **environment: str) -> AbstractContextManager[Family]:
    env = {"TAILRACE_PREFIX": PREFIX, "TAILRACE_RETRY_MS": "50", **environment}
    return family(output, "gateway", "--port", "0", "--processes", "2", "--redis-url", redis_url, env=env)


@pytest.fixture(scope="module")
def gateway(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    """Tests may kill its processes, but leave it with two."""
    output = tmp_path_factory.mktemp("processes") / "gateway"
    with two_gateways(output, server_url, TAILRACE_DRAIN_SECONDS="1") as started:
        started.await_words("gateway ready at")
        yield started


async def eventually(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    async with asyncio.timeout(patient(seconds)):
        while not condition():  # noqa: ASYNC110 - it is another process that makes it true
            await asyncio.sleep(0.02)


@asynccontextmanager
async def viewers(url: str, execution_id: str, count: int) -> AsyncGenerator[list[SseStream], None]:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_stream(url, execution_id)) for _ in range(count)]
        for stream in streams:
            await stream.until("stream.caught_up")
        yield streams


async def followed(tasks: asyncio.TaskGroup, url: str, execution_id: str, count: int) -> list[Follower]:
    """Viewers that come again by themselves, until the end."""
    following = [Follower(execution_id, [url], random.Random(number), lambda _: None) for number in range(count)]
    for each in following:
        tasks.create_task(each.follow())
    await eventually(lambda: all(each.events for each in following))
    return following


def metrics(url: str, wait_seconds: float = patient(5)) -> dict[str, float]:
    """By name and labels, as in ``tailrace_viewers of=executions process=0``."""
    answer = httpx.get(url, timeout=wait_seconds)
    assert answer.status_code == 200, answer.text
    return {
        " ".join([sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))]): sample.value
        for parsed in text_string_to_metric_families(answer.text)
        for sample in parsed.samples
    }


def pids(started: Family) -> dict[str, int]:
    """Of the processes that became ready, by their number; of a number that was used again, the last."""
    return {number: int(pid) for number, pid in re.findall(r"process (\d+) is ready \(pid (\d+)\)", started.said)}


def living(started: Family) -> dict[str, int]:
    members = started.members()
    return {number: pid for number, pid in pids(started).items() if pid in members}


async def test_processes_share_a_port_and_show_their_metrics_on_one_page(
    gateway: Family, bus: Bus, prefix: str
) -> None:
    url = url_of(gateway)
    assert "2 processes" in gateway.said
    async with bus.execution(prefix) as execution, viewers(url, prefix, 32) as streams:
        page = metrics(f"{url}/metrics")
        shares = [page[f"tailrace_viewers of=executions process={number}"] for number in living(gateway)]
        assert sum(shares) == 32
        assert min(shares) > 0, "the kernel dealt all connections to one process"
        await execution.append("custom.counted", {})
        for stream in streams:
            await stream.until("custom.counted")
        # Whichever of the two answers, it speaks for both.
        for _ in range(8):
            page = metrics(f"{url}/metrics")
            assert sum(page[f"tailrace_deliveries_total process={number}"] for number in living(gateway)) >= 32
    assert page["tailrace_processes"] == 2
    assert [page[f"tailrace_process_up process={number}"] for number in living(gateway)] == [1, 1]


async def test_a_killed_process_is_started_again_and_viewers_and_counters_lose_nothing(
    gateway: Family, bus: Bus, prefix: str
) -> None:
    url = url_of(gateway)
    number, killed = max(living(gateway).items())
    deaths = metrics(f"{url}/metrics")["tailrace_process_deaths_total"]
    async with asyncio.TaskGroup() as tasks, bus.execution(prefix) as execution:
        following = await followed(tasks, url, prefix, 16)
        for _ in range(20):
            await execution.append("custom.counted", {})
        ids = await log_ids(bus, prefix)
        await eventually(lambda: all(each.last_id == ids[-1] for each in following))
        before = metrics(f"{url}/metrics")
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: len(set(living(gateway).values()) - {killed}) == 2, seconds=40)
        await execution.append("custom.counted", {})
    ids = await log_ids(bus, prefix)
    assert [each.ids for each in following] == [ids] * 16
    assert f"process {number} (pid {killed}) was ended by SIGKILL" in gateway.said
    after = metrics(f"{url}/metrics")
    assert after["tailrace_process_deaths_total"] == deaths + 1
    name = f"tailrace_deliveries_total process={number}"
    assert after[name] >= before[name] > 0


async def test_sigterm_drains_one_process_after_the_other(
    server_url: str, bus: Bus, prefix: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(two_gateways(tmp_path / "ours", server_url, TAILRACE_DRAIN_SECONDS="6"))
        url = url_of(gateway)
        await stack.enter_async_context(bus.execution(prefix))
        streams = await stack.enter_async_context(viewers(url, prefix, 32))
        gateway.signal(signal.SIGTERM)
        rests = [asyncio.create_task(stream.rest()) for stream in streams]
        await asyncio.wait(rests, return_when=asyncio.FIRST_COMPLETED)
        # One is being drained, and the other serves the port until its own turn.
        late = await stack.enter_async_context(open_stream(url, prefix))
        frames = await late.rest()
        assert gateway.said.count("ended with exit code 0, as told") >= 1
        for told in (frames, *[await rest for rest in rests]):
            assert any(frame.name == "stream.reconnect" for frame in told)
        assert await asyncio.to_thread(gateway.wait) == 0
        assert gateway.said.count("ended with exit code 0, as told") == 2
        gateway.await_nobody()


async def test_ctrl_c_does_not_wait_for_viewers(server_url: str, bus: Bus, prefix: str, tmp_path: Path) -> None:
    with two_gateways(tmp_path / "slow", server_url, TAILRACE_DRAIN_SECONDS="3000") as gateway:
        async with bus.execution(prefix), viewers(url_of(gateway), prefix, 8):
            gateway.signal(signal.SIGINT)
            assert await asyncio.to_thread(gateway.wait) == 0
        gateway.await_nobody()


async def test_a_rolling_restart_under_viewers_loses_nothing(gateway: Family, bus: Bus, prefix: str) -> None:
    url = url_of(gateway)
    before, deaths = set(living(gateway).values()), metrics(f"{url}/metrics")["tailrace_process_deaths_total"]
    async with asyncio.TaskGroup() as tasks, bus.execution(prefix) as execution:
        following = await followed(tasks, url, prefix, 16)
        gateway.signal(signal.SIGHUP)
        while "rolling restart done" not in gateway.said:
            await execution.append("custom.counted", {})
            # The port is served at each moment, by what was there or by what replaces it.
            async with open_stream(url, prefix) as other:
                assert other.status == 200
            assert gateway.process.poll() is None
    ids = await log_ids(bus, prefix)
    assert [each.ids for each in following] == [ids] * 16
    assert sum(each.connections for each in following) > 16
    page = metrics(f"{url}/metrics")
    assert page["tailrace_rolling_restarts_total outcome=done"] == 1
    assert page["tailrace_process_deaths_total"] == deaths
    assert sum(value for name, value in page.items() if name.startswith("tailrace_process_up")) == 2
    assert len(living(gateway)) == 2
    assert not before & set(living(gateway).values())


def test_a_replacement_that_fails_leaves_the_old_one_running(server_url: str, prefix: str, tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(PIPELINES.format(number=1))
    arguments = ("worker", "--processes", "2", "--metrics-port", "0", "--redis-url", server_url)
    env = {"TAILRACE_PREFIX": prefix, "TAILRACE_PIPELINES": "looking:registry"}
    with ExitStack() as stack:
        worker = stack.enter_context(family(tmp_path / "worker", *arguments, env=env, cwd=tmp_path))
        worker.await_words("worker ready")
        url = re.findall(r"http://\S+/metrics", worker.said)[0]
        old = pids(worker)
        (tmp_path / "looking.py").write_text("nonsense(")
        worker.signal(signal.SIGHUP)
        worker.await_words("rolling restart given up: process 2 ended with exit code")
        assert {pid for pid in worker.members() if pid in old.values()} == set(old.values())
        assert metrics(url)["tailrace_rolling_restarts_total outcome=given up"] == 1

        (tmp_path / "looking.py").write_text(PIPELINES.format(number=22222))
        worker.signal(signal.SIGHUP)
        worker.await_words("rolling restart done")
        assert not {pid for pid in worker.members() if pid in old.values()}
        gateway = stack.enter_context(
            family(tmp_path / "gateway", "gateway", "--port", "0", env=env | {"TAILRACE_REDIS_URL": server_url})
        )
        done = call("submit", "look", "--gateway", url_of(gateway), "--follow", "--json")
        assert done.returncode == 0
        assert "22222" in done.stdout
        page = metrics(url)
        taken = [value for name, value in page.items() if name.startswith("tailrace_jobs_taken_total")]
        assert sum(taken) == 1

        # Killed itself, it leaves nobody behind.
        worker.signal(signal.SIGKILL)
        worker.wait()
        worker.await_nobody(seconds=12.0)


def test_a_process_that_dies_again_and_again_ends_all_with_what_is_wrong(server_url: str, tmp_path: Path) -> None:
    with two_gateways(tmp_path / "dying", server_url) as gateway:
        gateway.await_words("gateway ready at")
        kill_again_and_again(gateway)


def kill_again_and_again(gateway: Family) -> None:
    for _ in range(MAX_DEATHS):
        number, pid = max(pids(gateway).items())
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pids(gateway)[number] != pid or gateway.process.poll() is not None, seconds=40)  # noqa: B023

    assert gateway.wait() == 1
    assert f"has died {MAX_DEATHS} times within 60 s, the last time it was ended by SIGKILL" in gateway.said
    gateway.await_nobody()


async def test_while_redis_is_away_a_process_that_died_is_tried_again_and_the_others_live(
    fresh_server: RunningServer, tmp_path: Path
) -> None:
    with two_gateways(tmp_path / "gateway", fresh_server.url, TAILRACE_DRAIN_SECONDS="3000") as gateway:
        url = url_of(gateway)
        old = pids(gateway)
        fresh_server.kill()
        os.kill(old["0"], signal.SIGKILL)
        gateway.await_words("process 0 ended with exit code 2; starting another")
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{url}/healthz")).status_code == 200
        fresh_server.start()
        await eventually(lambda: pids(gateway)["0"] != old["0"], seconds=40)
        assert pids(gateway)["1"] == old["1"]

        # A second signal does not wait for viewers.
        async with (
            await open_bus(fresh_server.url, settings=BusSettings(prefix=PREFIX)) as bus,
            bus.execution("run"),
            viewers(url, "run", 8),
        ):
            gateway.signal(signal.SIGTERM)
            await asyncio.sleep(0.1)  # two signals of a kind at once may be one
            gateway.signal(signal.SIGTERM)
            assert await asyncio.to_thread(gateway.wait) == 0


def test_a_process_that_does_not_answer_is_shown_with_its_last_figures(gateway: Family) -> None:
    url = url_of(gateway)
    (answers, _), (number, stopped) = sorted(living(gateway).items())
    before = metrics(f"{url}/metrics")
    os.kill(stopped, signal.SIGSTOP)
    try:
        page: dict[str, float] = {}
        while not page:
            # Half of the connections go to the one that is stopped.
            with contextlib.suppress(httpx.ReadTimeout):
                page = metrics(f"{url}/metrics", stretched(3))
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert page[f"tailrace_process_up process={number}"] == 0
    assert page[f"tailrace_process_up process={answers}"] == 1
    name = f"process_start_time_seconds process={number}"
    assert page[name] == before[name]


def test_a_port_of_another_supervisor_is_not_shared_silently(gateway: Family, server_url: str) -> None:
    port = url_of(gateway).rpartition(":")[2]
    done = call("gateway", "--port", port, "--processes", "2", "--redis-url", server_url)
    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}: the port is in use" in done.stderr


def test_what_a_process_cannot_start_with_ends_all_with_its_exit_code() -> None:
    done = call("worker", "--processes", "2", "--pipelines", "no_such:registry")
    assert done.returncode == 64
    assert "there is no module 'no_such'" in done.stderr
    done = call("gateway", "--processes", "0")
    assert done.returncode == 64
    assert "--processes" in done.stderr
