"""Plain steps, whose threads nothing stops: another begins only when they have returned."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tailrace.bus import Bus
from tailrace.workers import Pipeline, Registry, Step, Worker, WorkerSettings
from tests.integration.workers.watching import types_of, until, watch, working
from tests.patience import patient

pytestmark = pytest.mark.anyio


class Acting:
    """A step that acts until it is released, and sees whether it ever acts twice at once."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.begun = 0
        self.acting = 0
        self.most = 0

    def __call__(self) -> int:
        self.begun += 1
        self.acting += 1
        self.most = max(self.most, self.acting)
        self.released.wait(patient(30))
        self.acting -= 1
        return self.begun


def registry_of(step: Acting, max_attempts: int) -> Registry:
    return Registry([Pipeline("acting", (Step("act", step),), max_attempts=max_attempts)])


async def stopped_worker(bus: Bus, registry: Registry, acting: Acting) -> asyncio.Task[None]:
    """A worker that was told to stop at once, while its step acts."""
    worker = Worker(bus, registry, WorkerSettings(drain_seconds=0))
    running = asyncio.create_task(worker.run())
    await until(lambda: acting.acting == 1)
    worker.stop()
    return running


async def test_attack_07_a_stopped_worker_hands_on_when_the_thread_has_returned(bus: Bus) -> None:
    acting = Acting()
    registry = registry_of(acting, 3)
    execution_id = await bus.submit("acting", {})
    stopping = await stopped_worker(bus, registry, acting)
    async with working(bus, registry):
        # Longer than a lease: the next worker would have it by now.
        await asyncio.sleep(1.2 * bus.settings.lease_seconds)
        assert acting.begun == 1
        acting.released.set()
        entries = await watch(bus, execution_id)
    await stopping
    assert acting.most == 1
    assert types_of(entries)[-1] == "execution.completed"
    (retrying,) = [entry.data for entry in entries if entry.type == "execution.retrying"]
    assert (retrying["reason"], retrying["attempt"]) == ("worker_stopped", 1)


@pytest.mark.parametrize("max_attempts", [3, 1])
async def test_attack_07_a_thread_that_never_returns_keeps_its_execution_until_the_process_ends(
    bus: Bus, max_attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.workers.worker.worker.STOPPING_SECONDS", 0.1)
    acting = Acting()
    registry = registry_of(acting, max_attempts)
    execution_id = await bus.submit("acting", {})
    try:
        await (await stopped_worker(bus, registry, acting))
        state = await bus.state(execution_id)
        assert state is not None
        if max_attempts == 1:
            assert state.status == "cancelled"
            ending = (await watch(bus, execution_id))[-1]
            assert (ending.data["reason"], ending.data["forced"]) == ("worker_stopped", True)
        else:
            # A healer that finds this process gone hands it on, and no attempt was spent.
            assert (state.status, state.attempt, state.owner is None) == ("running", 0, False)
        assert bus.counters["attempts_deaf"] == 1
    finally:
        acting.released.set()
    await until(lambda: acting.acting == 0)
