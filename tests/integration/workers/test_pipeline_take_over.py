"""A worker process is killed in the middle of a pipeline, and the next goes on from the checkpoints."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace.bus import Bus, Entry
from tests.integration.workers.conftest import LEASE_SECONDS
from tests.integration.workers.pipeline_worker import PIPELINES
from tests.integration.workers.test_pipeline_process import is_alive
from tests.integration.workers.watching import until, watch, working

pytestmark = pytest.mark.anyio

Spawn = Callable[[], subprocess.Popen[bytes]]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def spawn(server_url: str, prefix: str) -> Iterator[Spawn]:
    with contextlib.ExitStack() as stack:

        def start() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "tests.integration.workers.pipeline_worker"]
            worker = subprocess.Popen([*command, server_url, prefix, str(LEASE_SECONDS)], cwd=ROOT)
            stack.callback(worker.wait)
            stack.callback(worker.kill)
            return worker

        yield start


def of_step(entries: list[Entry], step: str) -> list[tuple[str, object]]:
    return [(entry.type, entry.data) for entry in entries if entry.step == step]


async def test_a_killed_workers_steps_go_on_where_they_were(bus: Bus, spawn: Spawn) -> None:
    worker = spawn()
    execution_id = await bus.submit("pages", {})
    await watch(bus, execution_id, until="custom.stuck")
    worker.send_signal(signal.SIGKILL)
    async with working(bus, PIPELINES):
        entries = await watch(bus, execution_id)
    assert entries[-1].type == "execution.completed"
    assert entries[-1].data["result"] == 6
    assert of_step(entries, "count")[-1] == ("step.skipped", {"reason": "checkpoint"})
    seen = [(entry.data["page"], entry.data["attempt"]) for entry in entries if entry.type == "custom.page"]
    assert seen == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]


async def test_a_question_outlives_its_worker_and_is_asked_once(bus: Bus, spawn: Spawn) -> None:
    worker = spawn()
    execution_id = await bus.submit("review", {})
    await watch(bus, execution_id, until="review.required")
    await bus.control.signal(execution_id, "answer:review.1", 7, by="ann")
    await watch(bus, execution_id, until="review.rejected")
    worker.send_signal(signal.SIGKILL)
    async with working(bus, PIPELINES):
        await watch(bus, execution_id, until="execution.retrying")
        await bus.control.signal(execution_id, "answer:review.1", "yes", by="bob")
        entries = await watch(bus, execution_id)
    assert entries[-1].data["result"] == "yes"
    reviews = [entry.type for entry in entries if entry.type.startswith("review.")]
    assert reviews == ["review.required", "review.rejected", "review.resolved"]


async def test_an_answer_outlives_the_worker_that_took_it(bus: Bus, spawn: Spawn) -> None:
    worker = spawn()
    execution_id = await bus.submit("review", {})
    await watch(bus, execution_id, until="review.required")
    await bus.control.signal(execution_id, "answer:review.1", "then die", by="ann")
    await watch(bus, execution_id, until="custom.stuck")
    worker.send_signal(signal.SIGKILL)
    async with working(bus, PIPELINES):
        entries = await watch(bus, execution_id)
    assert entries[-1].data["result"] == "then die"
    reviews = [entry.type for entry in entries if entry.type.startswith("review.")]
    assert reviews == ["review.required", "review.resolved"]


async def test_the_process_of_a_step_does_not_outlive_its_worker(bus: Bus, spawn: Spawn, tmp_path: Path) -> None:
    worker = spawn()
    execution_id = await bus.submit("block", {"url": "/a", "directory": str(tmp_path)})
    begun = await watch(bus, execution_id, until="log")
    pids = [int(pid) for pid in begun[-1].data["text"].split()]
    assert all(map(is_alive, pids))
    worker.send_signal(signal.SIGKILL)
    await until(lambda: not any(map(is_alive, pids)))
