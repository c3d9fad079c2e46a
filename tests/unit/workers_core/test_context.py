from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from bus.errors import InvalidEventError
from tests.unit.workers_core.fakes import RecordedEvents, context_of
from workers.context import Context

pytestmark = pytest.mark.anyio

Says = Callable[[Context], Awaitable[None]]


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (lambda ctx: ctx.progress(0.4), ("step.progress", {"progress": 0.4})),
        (lambda ctx: ctx.progress(1, "done"), ("step.progress", {"progress": 1.0, "message": "done"})),
        (lambda ctx: ctx.token("wor"), ("token", {"text": "wor"})),
        (lambda ctx: ctx.log("so far so good"), ("log", {"text": "so far so good", "level": "info"})),
        (lambda ctx: ctx.log("oh", level="error"), ("log", {"text": "oh", "level": "error"})),
        (lambda ctx: ctx.log("line", stream="stderr"), ("log", {"text": "line", "stream": "stderr"})),
        (lambda ctx: ctx.metric("words", 12), ("metric", {"name": "words", "value": 12})),
        (lambda ctx: ctx.metric("time", 1.5, "s"), ("metric", {"name": "time", "value": 1.5, "unit": "s"})),
        (
            lambda ctx: ctx.quality("sources", 0.7, passed=False),
            ("quality.check", {"name": "sources", "score": 0.7, "passed": False}),
        ),
        (lambda ctx: ctx.emit("custom.found", {"x": 1}), ("custom.found", {"x": 1})),
    ],
)
async def test_what_a_step_says_becomes_an_event_that_names_the_step(say: Says, expected: tuple[str, object]) -> None:
    events = RecordedEvents()
    await say(context_of(events).in_step("fetch"))
    assert events.events == [(*expected, "fetch")]


async def test_progress_may_be_off_by_what_sums_of_floats_are_off_by() -> None:
    events = RecordedEvents()
    await context_of(events).progress(1.0000000001)
    await context_of(events).progress(-1e-12)
    assert [data for _, data, _ in events.events] == [{"progress": 1.0}, {"progress": 0.0}]


@pytest.mark.parametrize("fraction", [50, -0.1, 1.01, math.nan, math.inf])
async def test_progress_that_is_no_fraction_is_refused_with_the_range(fraction: float) -> None:
    events = RecordedEvents()
    with pytest.raises(ValueError, match=r"fraction is .*: progress goes from 0 to 1"):
        await context_of(events).progress(fraction)
    assert not events.events


@pytest.mark.parametrize("value", [math.nan, math.inf])
async def test_figures_that_json_cannot_carry_are_refused(value: float) -> None:
    ctx = context_of(RecordedEvents())
    with pytest.raises(ValueError, match="'time' must be finite"):
        await ctx.metric("time", value)
    with pytest.raises(ValueError, match="'sources' must be finite"):
        await ctx.quality("sources", value, passed=True)


async def test_a_token_without_text_is_no_event() -> None:
    events = RecordedEvents()
    await context_of(events).token("")
    assert not events.events


@pytest.mark.parametrize("event_type", ["execution.completed", "execution.started", "execution.cancelled"])
async def test_a_step_cannot_write_the_life_cycle(event_type: str) -> None:
    events = RecordedEvents()
    with pytest.raises(InvalidEventError, match="appended by the worker"):
        await context_of(events).emit(event_type)
    assert not events.events


async def test_a_plain_function_speaks_from_its_thread_and_hears_the_refusal() -> None:
    events = RecordedEvents()
    ctx = context_of(events).in_step("plain")

    def work() -> None:
        ctx.from_thread(ctx.progress, 0.5, message="half")
        ctx.from_thread(ctx.progress, 7.0)

    with pytest.raises(ValueError, match="fraction"):
        await asyncio.to_thread(work)
    assert events.events == [("step.progress", {"progress": 0.5, "message": "half"}, "plain")]


async def test_steps_share_their_memory() -> None:
    ctx = context_of(RecordedEvents())
    ctx.in_step("one").memory["text"] = "long"
    assert ctx.in_step("two").memory == {"text": "long"}
