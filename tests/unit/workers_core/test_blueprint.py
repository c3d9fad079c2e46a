"""Pipelines from JSON: what is accepted, and the sentence for what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from tailrace.workers import (
    Context,
    Outputs,
    PipelineInvalidError,
    Registry,
    StepRegistry,
    built_in,
    pipeline_from,
    pipeline_from_file,
)
from tailrace.workers.builtin.answer_schema import AnswerSchema
from tailrace.workers.builtin.steps import STEPS
from tailrace.workers.running.runner import checked_input, run_steps
from tests.unit.workers_core.fakes import RecordedRun

pytestmark = pytest.mark.anyio

steps = StepRegistry()


class Depth(BaseModel):
    depth: int = Field(1, ge=1)


@steps.step("dig")
async def dig(ctx: Context, options: Depth) -> dict[str, Any]:
    """Digs.

    More.
    """
    await ctx.progress(1.0)
    return {"depth": options.depth, "deep": options.depth > 2}


@steps.step("look")
def look(_ctx: Context, outputs: Outputs, given: dict[str, Any]) -> dict[str, Any]:
    return {"saw": dict(outputs), "given": given}


def document(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"name": "garden", "steps": list(parts), **more}


async def run(*parts: Any, on: RecordedRun | None = None, given: Any = None) -> Any:
    return await run_steps(pipeline_from(document(*parts), steps), on or RecordedRun(), given or {})


async def test_a_document_becomes_a_pipeline_that_runs() -> None:
    result = await run(
        {"name": "dig", "options": {"depth": 3}},
        {"parallel": [{"name": "left", "run": "look"}, {"sequence": ["look"]}]},
        {"name": "again", "run": "dig", "when": {"step": "dig", "path": "deep", "equals": True}, "retries": 2},
        given={"x": 1},
    )
    assert result == {"depth": 1, "deep": False}


async def test_a_condition_skips_a_step() -> None:
    on = RecordedRun()
    await run("dig", {"name": "look", "when": {"step": "dig", "path": "deep", "equals": True}}, on=on)
    assert on.data_of("step.skipped", "look") == {"reason": "condition"}


def test_everything_a_document_can_say_reaches_the_pipeline() -> None:
    streaming = {"enabled": True, "emit_progress": False, "buffer_size": 100, "flush_interval_ms": 20}
    made = pipeline_from(
        document(
            {"name": "a", "run": "dig", "timeout_seconds": 5, "retries": 2, "retry_delay_seconds": 0.1},
            streaming=streaming,
            timeout_seconds=60,
            max_attempts=2,
            retries=1,
            retry_delay_seconds=3,
        ),
        steps,
    )
    assert (made.name, made.timeout_seconds, made.max_attempts, made.retries) == ("garden", 60, 2, 1)
    assert made.retry_delay_seconds == 3
    assert made.streaming.model_dump() == streaming
    assert made.streaming.pace == {"max_buffered_events": 100, "linger_seconds": 0.02}
    (step,) = (step for node in made.steps for step in node.steps)
    assert (step.timeout_seconds, step.retries, step.retry_delay_seconds) == (5, 2, 0.1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "name: Field required; steps: Field required"),
        (document(), "steps: Tuple should have at least 1 item"),
        ({**document("dig"), "name": "No Name"}, "name: String should match pattern"),
        (document("fly"), "steps.0.name: there is no step 'fly' on this worker; it knows: dig, look"),
        (document("dig", {"name": "x", "run": "os.system"}), "steps.1.run: there is no step 'os.system'"),
        (document({"parallel": ["dig", "fly"]}), "steps.0.parallel.1.name: there is no step 'fly'"),
        (document({"sequence": []}), "steps.0.sequence: Tuple should have at least 1 item"),
        (document({"name": "dig", "options": {"depth": 0}}), "options.depth: Input should be greater than or equal"),
        (document({"name": "dig", "option": {}}), "steps.0.option: Extra inputs are not permitted"),
        (document({"name": "look", "options": {"x": 1}}), "options: its function has no parameter of that name"),
        (document({"name": "dig", "timeout_seconds": -1}), "steps.0.timeout_seconds: Input should be greater"),
        (document({"name": "dig", "retries": 1000}), "steps.0.retries: Input should be less than"),
        (document({"name": "dig", "when": {"path": "x"}}), "steps.0.when: has no comparison"),
        (
            document({"name": "dig", "when": {"step": "x", "equals": 1}}),
            "names 'x', which is not a step before it",
        ),
        (document("dig", "dig"), "more than one step named dig"),
        (document({"name": "a\nb", "run": "dig"}), "control characters"),
        (document("dig", streaming={"buffer_size": 0}), "streaming.buffer_size: Input should be greater than or equal"),
        (document("dig", streaming={"emit_progress": "yes"}), "streaming.emit_progress: Input should be a valid bool"),
        (document("dig", streaming={"flush": 1}), "streaming.flush: Extra inputs are not permitted"),
        (document("dig", steps_=[]), "steps_: Extra inputs are not permitted"),
        (document(7), "steps.0: Input should be a valid dictionary"),
        (document(*[f"s{n}" for n in range(257)]), "steps: Tuple should have at most 256 items"),
        (document(*[{"parallel": ["dig"] * 20}] * 20), "there are 400, 256 is the most"),
    ],
)
def test_a_document_that_cannot_be_used_is_refused_with_the_field(given: Any, sentence: str) -> None:
    with pytest.raises(PipelineInvalidError) as raised:
        pipeline_from(given, steps)
    assert sentence in str(raised.value)
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize("depth", [8, 300, 50_000])
@pytest.mark.parametrize("group", ["parallel", "sequence"])
def test_groups_nested_too_deeply_are_refused_and_break_nothing(depth: int, group: str) -> None:
    nested: Any = "dig"
    for _ in range(depth):
        nested = {group: [nested]}
    with pytest.raises(PipelineInvalidError, match="nested more than 8 deep"):
        pipeline_from(document(nested), steps)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "run", "steps", "parallel", "sequence", "when", "options", "all", "not", "equals", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=300)
@given(JSON)
def test_whatever_is_in_a_document_it_is_used_or_refused(part: Any) -> None:
    for made in (
        document(part),
        document({"name": "dig", "options": part, "when": part}),
        {"name": part, "steps": part},
    ):
        try:
            pipeline_from(made, steps)
        except PipelineInvalidError:
            continue


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "is not JSON"),
        (" " * (1024 * 1024 + 1), "has more than 1048576 bytes"),
        ("{}", "name: Field required"),
    ],
    ids=["missing", "broken", "list", "deep", "large", "empty"],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    file = tmp_path / "pipeline.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(PipelineInvalidError, match=sentence):
        pipeline_from_file(file, steps)


def test_a_file_becomes_a_pipeline(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.json"
    file.write_text(json.dumps(document("dig")))
    assert pipeline_from_file(file, steps).name == "garden"


def test_a_submitted_document_unfolds_into_its_pipeline_and_its_input() -> None:
    carrier = Registry(steps=steps).get("pipeline")
    assert carrier.unfold is not None
    submitted = checked_input(carrier.input_model, document("dig", input={"x": 1}))
    pipeline, given = carrier.unfold(submitted)
    assert (pipeline.name, given) == ("garden", {"x": 1})


@pytest.mark.parametrize(
    ("name", "problem"),
    [("dig", "there is a step 'dig' already"), ("Dig it", "is not a step name"), ("a..b", "is not a step name")],
)
def test_a_step_is_registered_once_and_under_a_name(name: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        steps.add(name, print)


def test_registries_are_joined_unless_both_have_a_name() -> None:
    assert set(steps.joined(StepRegistry())) == set(steps)
    with pytest.raises(ValueError, match="more than one is named dig, look"):
        steps.joined(steps)


def test_a_registered_step_tells_what_it_does() -> None:
    assert steps["dig"].summary == "Digs."
    assert all(step.summary for step in built_in(allow_command=False).steps.values())


async def built_in_run(*parts: Any, on: RecordedRun, given: Any = None) -> Any:
    return await run_steps(pipeline_from(document(*parts), STEPS), on, given or {})


async def test_the_built_in_steps_check_log_and_wait() -> None:
    on = RecordedRun()
    result = await built_in_run(
        {"name": "wait", "options": {"seconds": 0.01}},
        {"name": "say", "run": "log", "options": {"text": "done waiting", "level": "warning"}},
        {"name": "check", "options": {"condition": {"path": "score", "at_least": 0.5}}},
        {
            "name": "compare",
            "run": "check",
            "options": {"condition": {"step": "check", "path": "passed", "equals": True}},
        },
        on=on,
        given={"score": 0.7},
    )
    assert result == {"passed": True, "score": 1.0}
    assert on.data_of("quality.check", "check") == {"name": "check", "score": 0.7, "passed": True}
    assert on.data_of("log") == {"text": "done waiting", "level": "warning"}
    assert on.data_of("step.completed", "wait")["output"] == {"seconds": 0.01}
    assert [data["progress"] for each, data, _ in on.events if each == "step.progress"][-1] == 1.0


async def test_the_built_in_question_is_asked_and_its_answer_decides() -> None:
    on = RecordedRun()
    on.give("review.1", {"go": False}, by="ann")
    await built_in_run(
        {"name": "review", "run": "ask", "options": {"question": "Go?", "schema": {"type": "object"}}},
        {
            "name": "say",
            "run": "log",
            "options": {"text": "x"},
            "when": {"step": "review", "path": "answer.go", "equals": True},
        },
        on=on,
    )
    assert on.data_of("step.skipped", "say") == {"reason": "condition"}


def nested(key: str, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {key: schema}
    return schema


DOUBLING = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)} | {"d60": {}}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"x": {"type": "string", "pattern": "(a+)+$"}}},
        {"$defs": DOUBLING, "$ref": "#/$defs/d0"},
        {"unevaluatedProperties": False},
        {"type": "objekt"},
        {"properties": {"x": 7}},
        nested("items", 17),
        nested("not", 5000),
    ],
    ids=["pattern", "references", "unevaluated", "type", "no schema", "deep", "very deep"],
)
def test_a_schema_from_a_request_cannot_stop_the_worker(schema: dict[str, Any]) -> None:
    """One that is checked for ever would hold everybody's event loop."""
    with pytest.raises(PipelineInvalidError, match=r"options\.schema"):
        pipeline_from(document({"name": "ask", "options": {"question": "?", "schema": schema}}), STEPS)


def test_a_schema_is_asked_with_as_it_was_given() -> None:
    schema = {
        "type": "object",
        "properties": {"go": {"enum": [True, False, None]}, "why": {"type": ["string", "null"], "maxLength": 9}},
        "required": ["go"],
        "additionalProperties": False,
        "not": {"const": None},
    }
    assert AnswerSchema.model_validate(schema).plain == schema


def test_what_is_wrong_with_an_item_is_not_told_of_the_list_as_well() -> None:
    with pytest.raises(PipelineInvalidError) as raised:
        pipeline_from(document({"name": "dig", "option": {}}), steps)
    assert str(raised.value).endswith("cannot be used: steps.0.option: Extra inputs are not permitted.")
