"""The recipes of docs/queues.md as they stand, each with a real worker process of its queue."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tailrace.bus import Bus, BusSettings, Entry, open_bus
from tests.e2e.docs_support_page import Page
from tests.patience import patient
from tests.servers import RunningServer, spawn_server

pytestmark = pytest.mark.anyio

PAGE: Final = Path(__file__).parents[3] / "docs/queues.md"
LEASE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Recipe:
    module: str
    imports: str
    worker: tuple[str, ...]
    enqueue: str


CELERY: Final = Recipe(
    "celery_jobs",
    "from celery import",
    ("-m", "celery", "-A", "celery_jobs", "worker", "--pool", "solo"),
    "celery_jobs.count.delay({upto}).id",
)
DRAMATIQ: Final = Recipe(
    "dramatiq_jobs",
    "import dramatiq\n",
    ("-m", "dramatiq", "dramatiq_jobs", "--processes", "1", "--threads", "4"),
    "dramatiq_jobs.count.send({upto}).message_id",
)
TASKIQ: Final = Recipe(
    "taskiq_jobs",
    "from taskiq import",
    ("-m", "taskiq", "worker", "taskiq_jobs:broker", "--workers", "1", "--log-level", "WARNING"),
    "taskiq_jobs.asyncio.run(taskiq_jobs.count.kiq({upto})).task_id",
)
RECIPES: Final = [pytest.param(recipe, id=recipe.module) for recipe in (CELERY, DRAMATIQ, TASKIQ)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """On TCP: other libraries have spellings of their own for a unix socket."""
    with spawn_server("valkey", directory=tmp_path, port=0) as spawned:
        yield spawned


@pytest.fixture
async def bus(server: RunningServer) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server.url, settings=BusSettings(lease_seconds=LEASE_SECONDS)) as opened:
        yield opened


@contextmanager
def program(directory: Path, server: RunningServer, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process and its children in a group of their own, killed on leaving; what it says is in ``log``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    environment |= {
        "TAILRACE_TEST_SESSION": os.environ["TAILRACE_TEST_SESSION"],
        "TAILRACE_REDIS_URL": server.url,
        "TAILRACE_LEASE_SECONDS": str(LEASE_SECONDS),
        "PYTHONPATH": os.pathsep.join([str(directory), str(PAGE.parents[1])]),
    }
    with (directory / "log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, *command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        kill(started)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def write(recipe: Recipe, directory: Path) -> None:
    (block,) = [text for text in Page("queues", PAGE.read_text()).blocks_of("python") if recipe.imports in text]
    (directory / f"{recipe.module}.py").write_text(block)


async def enqueue(recipe: Recipe, directory: Path, server: RunningServer, upto: int) -> str:
    call = recipe.enqueue.format(upto=upto)
    code = f"import {recipe.module}; open('id', 'w').write({call})"
    with program(directory, server, "-c", code) as enqueueing:
        ended = await asyncio.to_thread(enqueueing.wait, patient(20))
    assert ended == 0, (directory / "log").read_text()
    return f"{(directory / 'id').read_text()}-0"


async def watched(bus: Bus, execution_id: str, directory: Path, until: str | None = None) -> list[Entry]:
    entries: list[Entry] = []
    try:
        async with asyncio.timeout(patient(20)):
            async for item in bus.follow(execution_id):
                if isinstance(item, Entry):
                    entries.append(item)
                    if item.type == until:
                        break
    except TimeoutError:
        pytest.fail(f"{entries}\n{(directory / 'log').read_text()}")
    return entries


@pytest.mark.parametrize("recipe", RECIPES)
async def test_a_job_of_the_queue_is_watched_to_its_result(
    recipe: Recipe, bus: Bus, server: RunningServer, tmp_path: Path
) -> None:
    write(recipe, tmp_path)
    with program(tmp_path, server, *recipe.worker):
        entries = await watched(bus, await enqueue(recipe, tmp_path, server, 5), tmp_path)
    assert [entry.type for entry in entries] == ["execution.started", *["step.progress"] * 5, "execution.completed"]
    assert entries[-1].data == {"result": 5}


@pytest.mark.parametrize("recipe", RECIPES)
async def test_a_job_whose_worker_is_killed_ends_as_lost(
    recipe: Recipe, bus: Bus, server: RunningServer, tmp_path: Path
) -> None:
    write(recipe, tmp_path)
    async with bus.healer.running():
        with program(tmp_path, server, *recipe.worker) as working:
            execution_id = await enqueue(recipe, tmp_path, server, 100_000)
            await watched(bus, execution_id, tmp_path, until="step.progress")
            kill(working)
        entries = await watched(bus, execution_id, tmp_path)
    assert (entries[-1].type, entries[-1].data["reason"]) == ("execution.failed", "worker_lost")
