from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from tailrace.bus.errors import InvalidEventError, InvalidInputError
from tailrace.bus.model.event import encode_json
from tailrace.bus.ownership.checkpoints import pack
from tailrace.workers.definition.context import Context
from tailrace.workers.definition.pipeline import Pipeline, Step
from tailrace.workers.definition.plain_context import PlainContext
from tailrace.workers.running.runner import run_steps
from tests.unit.workers_core.fakes import RecordedRun, context_of

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
    run = RecordedRun()
    await say(context_of(run))
    assert run.events == [(*expected, "fetch")]


async def test_attack_15_a_token_that_ends_within_a_pair_is_joined_with_the_next() -> None:
    async def speak(ctx: Context) -> None:
        for piece in ("a\ud83d", "", "\ude00b", "\ude00", "c\ud83d", "d", "e\ud83d"):
            await ctx.token(piece)

    run = RecordedRun()
    await run_steps(Pipeline("p", (Step("speak", speak),)), run, {})
    text = "".join(data["text"] for event_type, data, _ in run.events if event_type == "token")
    assert text == "a\U0001f600b\ufffdc\ufffdde\ufffd"


def test_attack_15_half_a_pair_elsewhere_is_refused_with_its_place_and_the_cure() -> None:
    with pytest.raises(InvalidEventError, match=r"data\.parts\.1: .* half a surrogate pair; join the halves"):
        encode_json({"parts": ["a", "b\ud83d"]})


async def test_progress_may_be_off_by_what_sums_of_floats_are_off_by() -> None:
    run = RecordedRun()
    await context_of(run).progress(1.0000000001)
    await context_of(run).progress(-1e-12)
    assert [data for _, data, _ in run.events] == [{"progress": 1.0}, {"progress": 0.0}]


@pytest.mark.parametrize("fraction", [50, -0.1, 1.01, math.nan, math.inf])
async def test_progress_that_is_no_fraction_is_refused_with_the_range(fraction: float) -> None:
    run = RecordedRun()
    with pytest.raises(ValueError, match=r"fraction is .*: progress goes from 0 to 1"):
        await context_of(run).progress(fraction)
    assert not run.events


@pytest.mark.parametrize("value", [math.nan, math.inf])
async def test_figures_that_json_cannot_carry_are_refused(value: float) -> None:
    ctx = context_of(RecordedRun())
    with pytest.raises(ValueError, match="'time' must be finite"):
        await ctx.metric("time", value)
    with pytest.raises(ValueError, match="'sources' must be finite"):
        await ctx.quality("sources", value, passed=True)


async def test_a_token_without_text_is_no_event() -> None:
    run = RecordedRun()
    await context_of(run).token("")
    assert not run.events


@pytest.mark.parametrize("event_type", ["execution.completed", "execution.started", "execution.cancelled"])
async def test_a_step_cannot_write_the_life_cycle(event_type: str) -> None:
    run = RecordedRun()
    with pytest.raises(InvalidEventError, match="appended by the worker"):
        await context_of(run).emit(event_type)
    assert not run.events


async def test_a_plain_function_speaks_from_its_thread_and_hears_the_refusal() -> None:
    run = RecordedRun()
    ctx = context_of(run, step="plain")

    def work() -> None:
        ctx.from_thread(ctx.progress, 0.5, message="half")
        ctx.from_thread(ctx.progress, 7.0)

    with pytest.raises(ValueError, match="fraction"):
        await asyncio.to_thread(work)
    assert run.events == [("step.progress", {"progress": 0.5, "message": "half"}, "plain")]


async def test_from_thread_in_the_loops_own_thread_is_refused_instead_of_hanging() -> None:
    ctx = context_of(RecordedRun())
    with pytest.raises(RuntimeError, match="an async one awaits"):
        ctx.from_thread(ctx.progress, 0.5)


async def test_the_plain_context_says_the_same_without_await() -> None:
    awaited, plain = RecordedRun(), RecordedRun()
    ctx = context_of(awaited)
    await ctx.progress(0.5, "half")
    await ctx.token("a", meta={"node": "x"})
    await ctx.log("line", level="warning")
    await ctx.metric("words", 3, "1")
    await ctx.quality("sources", 1.0, passed=True)
    await ctx.emit("custom.x", {"a": 1}, meta={"mode": "custom"})
    await ctx.checkpoint({"page": 3})

    def work(ctx: PlainContext) -> None:
        ctx.progress(0.5, "half")
        ctx.token("a", meta={"node": "x"})
        ctx.log("line", level="warning")
        ctx.metric("words", 3, "1")
        ctx.quality("sources", 1.0, passed=True)
        ctx.emit("custom.x", {"a": 1}, meta={"mode": "custom"})
        ctx.checkpoint({"page": 3})

    await asyncio.to_thread(work, PlainContext(context_of(plain)))
    assert plain.events == awaited.events
    assert plain.metas == awaited.metas == [None, {"node": "x"}, None, None, None, {"mode": "custom"}, None]
    assert plain.states == awaited.states == {"fetch": {"page": 3}}


def test_the_plain_context_has_every_call_of_the_other() -> None:
    """No call is forgotten when one is added."""
    calls = {name for name in vars(Context) if not name.startswith("_")} - {"backing", "loop", "asked", "from_thread"}
    assert {name for name in vars(PlainContext) if not name.startswith("_")} == calls


async def test_a_state_is_kept_before_it_is_told() -> None:
    run = RecordedRun()
    await context_of(run).checkpoint({"page": 3})
    assert run.states == {"fetch": {"page": 3}}
    assert run.types == ["checkpoint.saved"]
    assert run.data_of("checkpoint.saved") == {"bytes": len(pack({"page": 3}))}


@pytest.mark.parametrize("state", [object(), b"x" * (1024 * 1024 + 1)], ids=["object", "too large"])
async def test_a_state_that_cannot_be_kept_is_refused_with_the_field(state: object) -> None:
    with pytest.raises(InvalidInputError, match=r"state: (cannot be stored|has 1048582 bytes)"):
        await context_of(RecordedRun()).checkpoint(state)
