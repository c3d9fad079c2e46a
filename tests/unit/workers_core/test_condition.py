from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tailrace.workers import Condition, Context, Outputs, Pipeline, Step
from tailrace.workers.running.runner import run_steps
from tests.unit.workers_core.fakes import RecordedRun

GIVEN = {"kind": "pdf", "pages": 12, "deep": {"list": [1, {"x": None}]}}
OUTPUTS = {"check": {"passed": True, "score": 0.7}, "skipped": None, "text": "abc"}


def holds(**condition: Any) -> bool:
    return Condition.model_validate(condition)(GIVEN, OUTPUTS)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"step": "check", "path": "passed", "equals": True}, True),
        ({"step": "check", "path": "passed", "equals": 1}, False),
        ({"step": "check", "path": "passed", "not_equals": False}, True),
        ({"path": "kind", "equals": "pdf"}, True),
        ({"path": "kind", "one_of": ["pdf", "html"]}, True),
        ({"path": "kind", "one_of": []}, False),
        ({"path": "pages", "more_than": 12}, False),
        ({"path": "pages", "at_least": 12}, True),
        ({"path": "pages", "less_than": 12}, False),
        ({"path": "pages", "at_most": 12}, True),
        ({"path": "kind", "more_than": 0}, False),
        ({"step": "check", "path": "passed", "at_least": 0}, False),
        ({"path": "deep.list.0", "equals": 1}, True),
        ({"path": "deep.list.1.x", "equals": None}, True),
        ({"path": "deep.list.1.x", "exists": True}, True),
        ({"path": "deep.list.7", "exists": True}, False),
        ({"path": "deep.list.99999999999999999999", "exists": True}, False),
        ({"path": "deep.list.-1", "exists": True}, False),
        ({"path": "nothing.at.all", "exists": False}, True),
        ({"path": "nothing", "equals": None}, True),
        ({"path": "nothing", "less_than": 5}, False),
        ({"step": "text", "path": "0", "exists": True}, False),
        ({"step": "skipped", "path": "x", "exists": False}, True),
        ({"equals": GIVEN}, True),
        ({"all": [{"path": "pages", "at_least": 1}, {"path": "kind", "equals": "pdf"}]}, True),
        ({"all": [{"path": "pages", "at_least": 1}, {"path": "kind", "equals": "txt"}]}, False),
        ({"any": [{"path": "pages", "at_least": 99}, {"path": "kind", "equals": "pdf"}]}, True),
        ({"not": {"path": "kind", "equals": "pdf"}}, False),
    ],
)
def test_a_condition_compares_one_value(condition: dict[str, Any], expected: bool) -> None:
    assert holds(**condition) is expected


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ({}, "has no comparison: give exactly one of equals, not_equals"),
        ({"path": "x", "equals": 1, "at_least": 2}, "has equals and at_least"),
        ({"path": "x", "all": [{"equals": 1}]}, "has a step or path beside all"),
        ({"all": []}, "all"),
        ({"equal": 1}, "Extra inputs are not permitted"),
        ({"path": "x", "eval": "1+1"}, "Extra inputs are not permitted"),
        ({"path": "x", "more_than": "many"}, "more_than"),
        ({"one_of": None}, "has no comparison"),
    ],
)
def test_a_condition_that_says_nothing_clear_is_refused(condition: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Condition.model_validate(condition)


@pytest.mark.parametrize("depth", [9, 200, 100_000])
def test_a_condition_nested_too_deeply_is_refused_and_breaks_nothing(depth: int) -> None:
    nested: dict[str, Any] = {"equals": 1}
    for _ in range(depth):
        nested = {"not": nested}
    with pytest.raises(ValidationError):
        Condition.model_validate(nested)


def test_a_condition_knows_which_steps_it_reads() -> None:
    condition = Condition.model_validate(
        {"any": [{"step": "a", "equals": 1}, {"not": {"all": [{"step": "b", "equals": 1}, {"equals": 2}]}}]}
    )
    assert condition.steps == {"a", "b"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200)
@given(JSON, st.text(max_size=12), JSON, st.floats(allow_nan=False, allow_infinity=False))
def test_whatever_it_reads_a_condition_answers(found: Any, path: str, expected: Any, bound: float) -> None:
    for comparison in ({"equals": expected}, {"at_least": bound}, {"exists": True}, {"one_of": [expected]}):
        assert Condition.model_validate({"step": "x", "path": path, **comparison})(None, {"x": found}) in {True, False}


class Input(BaseModel):
    kind: str = "pdf"


@pytest.mark.anyio
async def test_a_step_whose_condition_does_not_hold_is_skipped_and_gives_nothing() -> None:
    on = RecordedRun()

    async def give(ctx: Context) -> str:
        return ctx.step

    async def last(_ctx: Context, outputs: Outputs) -> dict[str, Any]:
        return dict(outputs)

    steps = (
        Step("pdf", give, when=Condition(path="kind", equals="pdf")),
        Step("html", give, when=lambda given, _outputs: given.kind == "html"),
        Step("last", last),
    )
    assert await run_steps(Pipeline("p", steps, Input), on, Input()) == {"pdf": "pdf", "html": None}
    assert on.data_of("step.skipped", "html") == {"reason": "condition"}


@pytest.mark.anyio
async def test_the_result_is_that_of_the_last_step_that_ran() -> None:
    async def give(ctx: Context) -> str:
        return ctx.step

    steps = (Step("a", give), Step("b", give, when=lambda _given, _outputs: False))
    assert await run_steps(Pipeline("p", steps), RecordedRun(), {}) == "a"


@pytest.mark.anyio
async def test_a_condition_that_raises_fails_its_step() -> None:
    on = RecordedRun()
    with pytest.raises(ZeroDivisionError):
        await run_steps(Pipeline("p", (Step("a", print, when=lambda _g, _o: bool(1 / 0)),)), on, {})
    assert on.types == ["step.failed"]


def test_a_condition_on_a_step_that_is_not_before_is_refused() -> None:
    with pytest.raises(ValueError, match=r"when: names 'b', which is not a step before it \(there are: none\)"):
        Pipeline("p", (Step("a", lambda: 1, when=Condition(step="b", equals=1)), Step("b", lambda: 1)))


def test_an_async_condition_is_refused_for_it_would_always_hold() -> None:
    async def when(_given: Any, _outputs: Outputs) -> bool:
        return False

    with pytest.raises(ValueError, match="step 'a': when: must be a plain function"):
        Step("a", lambda: 1, when=when)  # type: ignore[arg-type]


NEXT_TO_2_53 = 2**53 + 1
"""The first whole number that no float can be."""


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        (Condition(equals=[1]), [True], False),
        (Condition(equals={"a": [{"b": 1}]}), {"a": [{"b": True}]}, False),
        (Condition(not_equals=[0]), [False], True),
        (Condition(one_of=([1], 0)), [True], False),
        (Condition(equals=[1, {"b": 2.0}]), [1.0, {"b": 2}], True),
        (Condition(equals={"a": 1, "b": 2}), {"b": 2, "a": 1}, True),
        (Condition(equals={"a": None}), {}, False),
        (Condition(equals=[1, 2]), [1], False),
        (Condition(equals=(1, 2)), [1, 2], True),
        (Condition(equals="1"), 1, False),
        (Condition(equals=NEXT_TO_2_53), 2**53, False),
        (Condition(equals=NEXT_TO_2_53), float(2**53), False),
        (Condition(at_most=NEXT_TO_2_53), NEXT_TO_2_53, True),
        (Condition(at_least=NEXT_TO_2_53), 2**53, False),
        (Condition(more_than=1e308), 10**400, True),
        (Condition(equals=None), float("nan"), True),
        (Condition(more_than=0), float("inf"), False),
    ],
)
def test_attack_79_conditions_compare_as_json_does_at_any_depth_and_exactly(
    condition: Condition, value: Any, expected: bool
) -> None:
    assert condition(value, {}) is expected


@pytest.mark.parametrize("comparison", ["more_than", "at_least", "less_than", "at_most"])
def test_attack_79_a_large_number_is_kept_as_it_was_written(comparison: str) -> None:
    condition = Condition.model_validate_json(f'{{"{comparison}": {NEXT_TO_2_53}}}')
    assert getattr(condition, comparison) == NEXT_TO_2_53


def test_attack_79_values_nested_deeper_than_python_recurses_are_compared() -> None:
    def nested(innermost: Any) -> Any:
        value = innermost
        for _ in range(100_000):
            value = [value]
        return value

    condition = Condition.model_construct({"equals"}, equals=nested(1))
    assert condition(nested(1.0), {})
    assert not condition(nested(True), {})
