"""Cancel: whoever asks is told what became of it, and so is the log."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus import (
    Bus,
    Execution,
    ExecutionClosedError,
    TransitionRefusedError,
)
from tailrace.bus.control import Outcome
from tests.integration.bus.steered_runs import WAIT, Running, forever, left_alone, story, types

pytestmark = pytest.mark.anyio


async def test_a_running_body_is_cancelled_and_whoever_asked_is_told_so(bus: Bus, elsewhere: Bus) -> None:
    async with Running(bus, forever) as running:
        outcome = await elsewhere.control.cancel("run", reason="too dear", by="ann", wait_seconds=WAIT)
        with pytest.raises(asyncio.CancelledError):
            await running.task
        assert running.task.cancelling() == 0
    entries = await story(bus)
    assert types(entries) == ["started", "cancel_requested", "cancelled"]
    assert entries[1].data == {"by": "ann", "reason": "too dear", "grace_seconds": 10.0}
    assert entries[2].data == {"reason": "too dear", "by": "ann", "request": entries[1].id}
    assert outcome == Outcome("run", entries[1].id, entries[2], "cancelled")
    request = running.execution.cancel_request
    assert request is not None
    assert (request.id, request.by, request.reason, request.grace_seconds) == (entries[1].id, "ann", "too dear", 10.0)


async def test_without_waiting_the_request_stands_and_nothing_is_claimed(bus: Bus, elsewhere: Bus) -> None:
    async with Running(bus, forever):
        outcome = await elsewhere.control.cancel("run")
        assert (outcome.event, outcome.status) == (None, "cancelling")
        waited = await elsewhere.control.wait(outcome, WAIT)
    assert waited.event is not None
    assert waited.event.data == {"reason": "cancelled", "request": outcome.request}


async def test_a_body_that_raises_on_its_way_out_was_cancelled_all_the_same(bus: Bus) -> None:
    async def clumsy(_: Execution) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    async with Running(bus, clumsy) as running:
        await bus.control.cancel("run", wait_seconds=WAIT)
        with pytest.raises(ZeroDivisionError):
            await running.task
    assert types(await story(bus)) == ["started", "cancel_requested", "cancelled"]


async def test_a_body_that_cleans_up_may_still_speak_during_the_grace(bus: Bus) -> None:
    async def tidy(execution: Execution) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await execution.append("custom.cleaned")

    async with Running(bus, tidy):
        await bus.control.cancel("run", wait_seconds=WAIT)
    assert types(await story(bus)) == ["started", "cancel_requested", "custom.cleaned", "cancelled"]


async def test_a_body_that_had_completed_before_it_noticed_stays_completed(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def finishing(execution: Execution) -> str:
        # No request reaches it: it is on its way out.
        monkeypatch.setattr(execution._ownership._requests, "deliver", lambda _: asked.set())
        asking = asyncio.create_task(bus.control.cancel("run", wait_seconds=WAIT))
        await asked.wait()
        outcomes.append(asking)
        return "done"

    outcomes: list[asyncio.Task[Outcome]] = []
    async with Running(bus, finishing) as running:
        await running.task
    outcome = await outcomes[0]
    assert outcome.status == "completed"
    assert outcome.event is not None
    assert outcome.event.data == {"result": "done"}
    assert types(await story(bus)) == ["started", "cancel_requested", "completed"]


@pytest.mark.parametrize("stubborn", ["swallows", "sleeps on"])
async def test_a_body_that_does_not_stop_is_ended_by_force_after_its_grace(bus: Bus, stubborn: str) -> None:
    refused: list[BaseException] = []

    async def deaf(execution: Execution) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if stubborn == "swallows":
                await asyncio.sleep(60)
            else:
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.Event().wait()
        try:
            await execution.append("custom.late")
        except ExecutionClosedError as error:
            refused.append(error)
            raise

    async with Running(bus, deaf) as running:
        started = asyncio.get_running_loop().time()
        outcome = await bus.control.cancel("run", grace_seconds=0.3, wait_seconds=WAIT)
        assert asyncio.get_running_loop().time() - started >= 0.3
        assert outcome.event is not None
        assert outcome.event.data == {"reason": "cancelled", "request": outcome.request, "forced": True}
        await asyncio.wait([running.task])
    assert len(refused) == (stubborn == "sleeps on")
    assert running.execution.abandoned.is_set()
    assert bus.counters["bodies_abandoned"] == 1
    assert types(await story(bus)) == ["started", "cancel_requested", "cancelled"]


async def test_a_body_that_swallows_its_cancellation_and_returns_has_been_cancelled(bus: Bus) -> None:
    async def swallowing(_: Execution) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it"
        raise AssertionError("unreachable")

    async with Running(bus, swallowing) as running:
        await bus.control.cancel("run", wait_seconds=WAIT)
        await running.task
    assert types(await story(bus)) == ["started", "cancel_requested", "cancelled"]


async def test_what_waits_for_a_worker_ends_at_once(bus: Bus, elsewhere: Bus) -> None:
    await bus.submit("nothing", execution_id="run")
    outcome = await elsewhere.control.cancel("run", reason="changed my mind", by="ann")
    assert outcome.status == "cancelled"
    entries = await story(bus)
    assert types(entries) == ["queued", "cancel_requested", "cancelled"]
    assert entries[2].data == {"reason": "changed my mind", "by": "ann"}
    assert outcome == Outcome("run", entries[1].id, entries[2], "cancelled")
    with pytest.raises(ExecutionClosedError):
        await bus.execution("run").__aenter__()


async def test_two_who_ask_are_both_told(bus: Bus, elsewhere: Bus) -> None:
    async with Running(bus, forever):
        both = await asyncio.gather(
            bus.control.cancel("run", wait_seconds=WAIT), elsewhere.control.cancel("run", wait_seconds=WAIT)
        )
    assert [outcome.status for outcome in both] == ["cancelled", "cancelled"]
    assert both[0].event == both[1].event
    assert types(await story(bus)) == ["started", "cancel_requested", "cancel_requested", "cancelled"]


async def test_nothing_else_can_be_asked_of_what_is_being_cancelled(bus: Bus) -> None:
    async def slow(execution: Execution) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await execution.abandoned.wait()

    async with Running(bus, slow):
        await bus.control.cancel("run", grace_seconds=0.5)
        for asking in (bus.control.pause("run"), bus.control.resume("run"), bus.control.signal("run", "go")):
            with pytest.raises(TransitionRefusedError) as caught:
                await asking
            assert caught.value.status == "cancelling"


async def test_a_request_that_arrives_while_the_run_changes_hands_is_obeyed_by_the_next(
    bus: Bus, elsewhere: Bus
) -> None:
    await left_alone(bus)
    outcome = await elsewhere.control.cancel("run", reason="while nobody looks")
    assert outcome.status == "cancelling"
    with pytest.raises(ExecutionClosedError):
        async with bus.execution("run"):
            raise AssertionError("it was to be cancelled")
    entries = await story(bus)
    assert types(entries) == ["started", "cancel_requested", "cancelled"]
    assert entries[-1].data == {"reason": "while nobody looks", "request": outcome.request}


async def test_a_cancellation_whose_request_was_lost_is_still_obeyed(bus: Bus) -> None:
    await left_alone(bus)
    await bus.control.cancel("run")
    await bus.commands.command("DEL", bus.keys.control("run"))
    with pytest.raises(ExecutionClosedError):
        await bus.execution("run").__aenter__()
    assert (await story(bus))[-1].data == {"reason": "cancelled"}
