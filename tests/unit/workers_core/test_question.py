from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, Field, field_validator

from tailrace.workers import Context, Parallel, Pipeline, PlainContext, Step
from tailrace.workers.definition.answer_check import ANSWER_CHECKS
from tailrace.workers.definition.pipeline import StepFunction
from tailrace.workers.definition.question import Schema
from tailrace.workers.running.runner import run_steps
from tests.patience import patient
from tests.unit.workers_core.fakes import RecordedRun

pytestmark = pytest.mark.anyio

CHOICE = {
    "type": "object",
    "properties": {"choice": {"enum": ["yes", "no"]}, "why": {"type": "string"}},
    "required": ["choice"],
    "additionalProperties": False,
}


class WorkerDied(BaseException):
    """Nothing in a step or a run sees it coming."""


class Verdict(BaseModel):
    score: int = Field(ge=0, le=10)
    by_whom: str = "?"

    @field_validator("by_whom")
    @classmethod
    def _somebody(cls, value: str) -> str:
        if value == "nobody":
            raise ValueError("must be somebody")
        return value


def asking(schema: Schema | None = None, *, key: str | None = None) -> StepFunction:
    async def step(ctx: Context) -> Any:
        return await ctx.ask("Publish?", schema, key=key)

    return step


async def run(*steps: Step, on: RecordedRun) -> Any:
    async with asyncio.timeout(patient(30)):
        return await run_steps(Pipeline("p", steps), on, {})


def reviews(on: RecordedRun) -> list[tuple[str, Any]]:
    return [(each, data) for each, data, _ in on.events if each.startswith("review.")]


async def test_a_question_is_stated_and_the_answer_is_told_with_who_gave_it() -> None:
    on = RecordedRun()
    on.give("review.1", "yes", by="ann")
    assert await run(Step("review", asking()), on=on) == "yes"
    assert reviews(on) == [
        ("review.required", {"ask": "review.1", "question": "Publish?"}),
        ("review.resolved", {"ask": "review.1", "answer": "yes", "by": "ann"}),
    ]
    assert on.answers["review.1"]["answer"] == "yes"


async def test_an_answer_that_does_not_fit_is_told_and_waited_on() -> None:
    on = RecordedRun()
    for answer in (None, {"choice": "maybe"}, {"choice": "no", "x": 1}, {"choice": "no"}):
        on.give("review.1", answer, by="ann")
    assert await run(Step("review", asking(CHOICE)), on=on) == {"choice": "no"}
    assert [each for each, _ in reviews(on)] == ["review.required", *["review.rejected"] * 3, "review.resolved"]
    required, first, second, *_ = (data for _, data in reviews(on))
    assert required["schema"] == CHOICE
    assert first == {"ask": "review.1", "errors": ["answer: None is not of type 'object'"], "by": "ann"}
    assert second["errors"] == ["answer.choice: 'maybe' is not one of ['yes', 'no']"]


async def test_a_model_is_shown_as_its_schema_and_comes_back_as_an_instance() -> None:
    on = RecordedRun()

    async def step(ctx: Context) -> list[Any]:
        verdict = await ctx.ask("How good?", Verdict)
        return [type(verdict).__name__, verdict.score]

    for answer in ({"score": 11}, {"score": 3, "by_whom": "nobody"}, {"score": "7"}):
        on.give("step.1", answer)
    assert await run(Step("step", step), on=on) == ["Verdict", 7]
    data = [data for _, data in reviews(on)]
    assert data[0]["schema"]["properties"]["score"]["maximum"] == 10
    assert data[1]["errors"] == ["answer.score: Input should be less than or equal to 10"]
    assert data[2]["errors"] == ["answer.by_whom: must be somebody"]


async def test_any_type_will_do_as_a_schema() -> None:
    on = RecordedRun()
    for answer in ("many", 3):
        on.give("review.1", answer)
    assert await run(Step("review", asking(int)), on=on) == 3


async def test_nobody_is_asked_again_after_a_take_over() -> None:
    lost = RecordedRun()
    step = Step("review", asking(CHOICE))
    waiting = asyncio.create_task(run(step, on=lost))
    lost.give("review.1", "wrong")
    await lost.said("review.rejected")
    waiting.cancel()
    await asyncio.wait([waiting])

    on = lost.taken_over()
    # The next attempt sees all signals, and so the wrong answer, again.
    on.give("review.1", "wrong")
    on.give("review.1", {"choice": "yes"})
    assert await run(step, on=on) == {"choice": "yes"}
    assert [each for each, _ in reviews(on)] == ["review.resolved"]


async def test_an_answer_that_was_accepted_survives_its_worker() -> None:
    lost = RecordedRun()
    lost.give("review.1", {"choice": "yes"}, by="ann")

    async def dies(ctx: Context) -> Any:
        answer = await ctx.ask("Publish?", CHOICE)
        if ctx.attempt == 1:
            raise WorkerDied
        return answer

    with pytest.raises(WorkerDied):
        await run(Step("review", dies), on=lost)
    on = lost.taken_over()
    assert await run(Step("review", dies), on=on) == {"choice": "yes"}
    assert reviews(on) == []


async def test_a_resolution_that_the_last_worker_could_not_tell_is_told_by_the_next() -> None:
    """It died between keeping the answer and telling of it."""

    class Dying(RecordedRun):
        async def keep_answer(self, ask: str, packed: bytes) -> None:
            await super().keep_answer(ask, packed)
            raise WorkerDied

    lost = Dying()
    lost.give("review.1", "yes", by="ann")
    with pytest.raises(WorkerDied):
        await run(Step("review", asking()), on=lost)
    on = lost.taken_over()
    assert await run(Step("review", asking()), on=on) == "yes"
    assert reviews(on) == [("review.resolved", {"ask": "review.1", "answer": "yes", "by": "ann"})]


async def test_a_step_that_is_tried_again_asks_nobody_twice() -> None:
    on = RecordedRun()
    tries = 0

    async def step(ctx: Context) -> list[Any]:
        nonlocal tries
        tries += 1
        answers = [await ctx.ask("First?", int), await ctx.ask("Second?", key="second")]
        if tries < 3:
            raise OSError("away")
        return answers

    on.give("step.1", "no number")
    on.give("step.1", 1)
    on.give("step.second", "b")
    assert await run(Step("step", step, retries=5, retry_delay_seconds=0.001), on=on) == [1, "b"]
    assert [each for each, _ in reviews(on)] == [
        "review.required",
        "review.rejected",
        "review.resolved",
        "review.required",
        "review.resolved",
    ]


async def test_questions_side_by_side_are_told_apart() -> None:
    on = RecordedRun()
    on.give("b.1", "for b")
    on.give("a.1", "for a")
    pipeline = Pipeline("p", (Parallel(Step("a", asking()), Step("b", asking())),))
    assert await run_steps(pipeline, on, {}) == {"a": "for a", "b": "for b"}


async def test_questions_without_a_key_are_counted_whatever_is_asked_between_them() -> None:
    """So that one which is asked only sometimes shifts no other."""
    on = RecordedRun()

    async def step(ctx: Context) -> list[Any]:
        return [await ctx.ask("?"), await ctx.ask("?", key="sometimes"), await ctx.ask("?")]

    for ask in ("step.1", "step.2", "step.sometimes"):
        on.give(ask, ask)
    assert await run(Step("step", step), on=on) == ["step.1", "step.sometimes", "step.2"]


async def test_a_key_names_one_question() -> None:
    async def step(ctx: Context) -> None:
        await ctx.ask("First?", key="same")
        await ctx.ask("Second?", key="same")

    on = RecordedRun()
    on.give("step.same", 1)
    with pytest.raises(ValueError, match="'same' was asked by this step already"):
        await run(Step("step", step), on=on)


@pytest.mark.parametrize("key", ["", "a b", "a/b", "ä", "x" * 65, "a\n", "a.b", "1"])
async def test_a_key_that_no_url_could_hold_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"key is .*: it is a letter or '_'"):
        await run(Step("step", asking(key=key)), on=RecordedRun())


async def test_a_step_may_be_called_whatever_it_likes() -> None:
    on = RecordedRun()
    task = asyncio.create_task(run(Step("Prüfung / 2", asking()), on=on))
    await on.said("review.required")
    ask = on.data_of("review.required")["ask"]
    assert ask.isascii()
    assert "/" not in ask
    on.give(ask, "yes")
    assert await task == "yes"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "objekt"}, r"schema: \$\.type: 'objekt' is not valid"),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "schema: refers to what is not in it"),
        (object(), "schema: "),
    ],
)
async def test_a_schema_that_cannot_be_used_fails_the_step(schema: Any, problem: str) -> None:
    on = RecordedRun()
    on.give("review.1", {})
    with pytest.raises(ValueError, match=problem):
        await run(Step("review", asking(schema)), on=on)


async def test_an_answer_nested_beyond_what_a_schema_can_follow_is_rejected() -> None:
    on = RecordedRun()
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    on.give("review.1", nested)
    on.give("review.1", [])
    endless = {"$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}, "$ref": "#/$defs/list"}
    assert await run(Step("review", asking(endless)), on=on) == []
    assert on.data_of("review.rejected")["errors"] == ["answer: is nested too deeply"]


async def test_attack_41_an_answer_whose_check_would_take_minutes_is_rejected_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The check of 8,000 items against a choice of 20,000, and a pattern that backtracks for ever."""
    monkeypatch.setattr(ANSWER_CHECKS, "processor_seconds", 1)
    choice: dict[str, Any] = {"type": "array", "items": {"enum": [f"choice-{n}" for n in range(20_000)]}}
    pattern = {"items": {"pattern": "^(a+)+$"}}
    longest_stall = 0.0

    async def watch_loop() -> None:
        nonlocal longest_stall
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            longest_stall = max(longest_stall, loop.time() - before - 0.01)

    on = RecordedRun()
    for ask, hostile in (("choice.1", ["choice-19999"] * 8_000), ("pattern.1", ["a" * 200 + "!"])):
        on.give(ask, hostile)
        on.give(ask, [])
    watching = asyncio.create_task(watch_loop())
    steps = Parallel(Step("choice", asking(choice)), Step("pattern", asking(pattern)))
    async with asyncio.timeout(patient(30)):
        assert await run_steps(Pipeline("p", (steps,)), on, {}) == {"choice": [], "pattern": []}
    watching.cancel()
    too_long = ["answer: takes more than 1 s to compare with the schema; make it smaller"]
    assert [data["errors"] for each, data in reviews(on) if each == "review.rejected"] == [too_long] * 2
    assert longest_stall < patient(0.5)


async def test_a_schema_of_many_nodes_is_read_elsewhere_and_still_checked() -> None:
    wide = {"properties": {f"member{n}": {"type": "string"} for n in range(500)}}
    on = RecordedRun()
    on.give("review.1", {"member7": 7})
    on.give("review.1", {"member7": "seven"})
    assert await run(Step("review", asking(wide)), on=on) == {"member7": "seven"}
    assert on.data_of("review.rejected")["errors"] == ["answer.member7: 7 is not of type 'string'"]
    broken = {"properties": {**wide["properties"], "member7": {"type": "objekt"}}}
    with pytest.raises(ValueError, match=r"schema: \$\.properties\.member7\.type: 'objekt' is not valid"):
        await run(Step("review", asking(broken)), on=RecordedRun())


async def test_a_plain_function_asks_from_its_thread() -> None:
    def step(ctx: PlainContext) -> Any:
        return ctx.ask("Publish?", CHOICE)

    on = RecordedRun()
    on.give("step.1", {"choice": "yes"})
    assert await run(Step("step", step), on=on) == {"choice": "yes"}
