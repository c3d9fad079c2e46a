"""Asking, pausing, cancelling and running out of time, on a real worker and over the real control stream."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tailrace.bus import Bus, Entry
from tailrace.workers import Context, Parallel, Pipeline, PlainContext, Registry, Step
from tailrace.workers.definition.pipeline import Node
from tests.integration.workers import programs
from tests.integration.workers.watching import types_of, until, watch, working

pytestmark = pytest.mark.anyio

CHOICE = {"type": "object", "properties": {"go": {"type": "boolean"}}, "required": ["go"]}


def registry(*nodes: Node, **options: Any) -> Registry:
    return Registry([Pipeline("p", nodes, **options)])


async def asks(ctx: Context) -> Any:
    return await ctx.ask("Go?", CHOICE)


async def waits(_ctx: Context) -> None:
    await asyncio.Event().wait()


def data_of(entries: list[Entry], event_type: str) -> list[Any]:
    return [entry.data for entry in entries if entry.type == event_type]


async def test_a_person_is_asked_and_the_signal_is_the_answer(bus: Bus) -> None:
    async with working(bus, registry(Step("review", asks))):
        execution_id = await bus.submit("p", {})
        await watch(bus, execution_id, until="review.required")
        await bus.control.signal(execution_id, "answer:review.1", "yes", by="ann")
        await watch(bus, execution_id, until="review.rejected")
        await bus.control.signal(execution_id, "answer:review.1", {"go": True}, by="bob")
        entries = await watch(bus, execution_id)
    assert [each for each in types_of(entries) if each.startswith("review.")] == [
        "review.required",
        "review.rejected",
        "review.resolved",
    ]
    assert data_of(entries, "review.required") == [{"ask": "review.1", "question": "Go?", "schema": CHOICE}]
    (rejected,) = data_of(entries, "review.rejected")
    assert rejected == {"ask": "review.1", "errors": ["answer: 'yes' is not of type 'object'"], "by": "ann"}
    assert data_of(entries, "review.resolved") == [{"ask": "review.1", "answer": {"go": True}, "by": "bob"}]
    assert entries[-1].data["result"] == {"go": True}
    assert all(entry.step == "review" for entry in entries if entry.type.startswith("review."))


async def test_a_step_in_a_process_asks_too(bus: Bus) -> None:
    async with working(bus, registry(Step("review", programs.ask, process=True))):
        execution_id = await bus.submit("p", {})
        await watch(bus, execution_id, until="review.required")
        await bus.control.signal(execution_id, "answer:review.1", {"go": "perhaps"})
        await bus.control.signal(execution_id, "answer:review.1", {"go": True}, by="ann")
        entries = await watch(bus, execution_id)
    assert entries[-1].data["result"] == ["Verdict", True]
    assert len(data_of(entries, "review.rejected")) == 1


async def test_what_a_step_said_before_its_question_stands_before_it(bus: Bus) -> None:
    async def step(ctx: Context) -> Any:
        for number in range(100):
            await ctx.token(f"{number} ")
        await ctx.log("now then")
        return await ctx.ask("Go?")

    async with working(bus, registry(Step("review", step))):
        execution_id = await bus.submit("p", {})
        entries = await watch(bus, execution_id, until="review.required")
        await bus.control.cancel(execution_id, wait_seconds=30)
    assert types_of(entries)[-2:] == ["log", "review.required"]


async def test_a_pipeline_stands_still_where_it_is_paused_and_its_steps_time_with_it(bus: Bus) -> None:
    async def step(ctx: Context) -> None:
        for number in range(200):
            await ctx.progress(number / 200)
            await asyncio.sleep(0.005)

    async with working(bus, registry(Step("one", step, timeout_seconds=5.0), timeout_seconds=5.5)):
        execution_id = await bus.submit("p", {})
        await watch(bus, execution_id, until="step.progress")
        await bus.control.pause(execution_id, wait_seconds=30)
        await asyncio.sleep(5.5)
        await bus.control.resume(execution_id, wait_seconds=30)
        entries = await watch(bus, execution_id)
    types = types_of(entries)
    paused, resumed = types.index("execution.paused"), types.index("execution.resumed")
    assert not any(each.startswith("step.") for each in types[paused:resumed])
    assert entries[-1].type == "execution.completed"


async def test_a_pause_holds_a_pipeline_between_steps_that_say_nothing(bus: Bus) -> None:
    async def silent() -> None:
        await asyncio.sleep(0.01)

    async with working(bus, registry(*(Step(f"s{number}", silent) for number in range(900)))):
        execution_id = await bus.submit("p", {})
        await watch(bus, execution_id, until="step.completed")
        await bus.control.pause(execution_id, wait_seconds=30)
        await asyncio.sleep(0.1)
        await bus.control.resume(execution_id, wait_seconds=30)
        await bus.control.cancel(execution_id, wait_seconds=30)
        entries = await watch(bus, execution_id)
    types = types_of(entries)
    paused, resumed = types.index("execution.paused"), types.index("execution.resumed")
    between = [each for each in types[paused:resumed] if each.startswith("step.")]
    assert between == []
    assert entries[-1].type == "execution.cancelled"


async def test_a_cancellation_reaches_every_branch_of_a_group(bus: Bus) -> None:
    begun: list[str] = []
    ended: list[str] = []

    async def branch(ctx: Context) -> None:
        begun.append(ctx.step)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(ctx.step)

    async with working(bus, registry(Parallel(*(Step(name, branch) for name in "abc")))):
        execution_id = await bus.submit("p", {})
        await until(lambda: len(begun) == 3)
        await bus.control.cancel(execution_id, by="ann", wait_seconds=30)
        entries = await watch(bus, execution_id)
    assert sorted(ended) == ["a", "b", "c"]
    assert entries[-1].type == "execution.cancelled"
    assert not [each for each in types_of(entries) if each in {"step.failed", "step.completed"}]


async def test_a_pipeline_that_takes_too_long_has_timed_out(bus: Bus) -> None:
    async with working(bus, registry(Step("slow", waits), timeout_seconds=0.2)):
        entries = await watch(bus, await bus.submit("p", {}))
    assert entries[-1].type == "execution.timed_out"
    assert entries[-1].data == {
        "reason": "timeout",
        "message": "Pipeline 'p' was not done within its 0.2 s.",
        "timeout_seconds": 0.2,
    }


async def test_a_worker_stops_though_a_thread_of_its_steps_hangs(bus: Bus) -> None:
    def hangs(ctx: PlainContext) -> None:
        ctx.log("hanging")
        ctx.ask("for ever?")

    async with working(bus, registry(Step("hangs", hangs)), drain_seconds=0) as worker:
        execution_id = await bus.submit("p", {})
        await watch(bus, execution_id, until="review.required")
        worker.stop()
        await until(lambda: not worker.running)
