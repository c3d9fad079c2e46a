"""A step's function gets what its parameters name, made of what they are annotated with."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
from pydantic import BaseModel, Field

from tailrace.workers import Context, Outputs, Parallel, Pipeline, PlainContext, Step, StepInputInvalidError
from tailrace.workers.definition.pipeline import Node, StepFunction
from tailrace.workers.running.runner import run_steps
from tests.unit.workers_core.fakes import RecordedRun

pytestmark = pytest.mark.anyio


class Page(BaseModel):
    url: str
    size: int = Field(ge=0)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Given(BaseModel):
    url: str


class Options(BaseModel):
    depth: int = Field(1, ge=1)


class Unknown:
    pass


async def fetch(_ctx: Context, given: Given) -> Page:
    return Page(url=given.url, size=3)


async def run(*steps: Step, given: Any = None, on: RecordedRun | None = None) -> Any:
    return await run_steps(Pipeline("p", steps), on or RecordedRun(), {"url": "/a"} if given is None else given)


async def test_the_input_and_an_earlier_output_come_as_their_models() -> None:
    async def measure(_ctx: Context, given: Given, fetch: Page) -> list[str]:
        return [type(given).__name__, type(fetch).__name__, fetch.url]

    assert await run(Step("fetch", fetch), Step("measure", measure)) == ["Given", "Page", "/a"]


async def test_a_name_that_no_parameter_can_spell_is_spelt_with_underscores() -> None:
    def measure(_ctx: Context, fetch_page: Page) -> int:
        return fetch_page.size

    assert await run(Step("fetch-page", fetch), Step("measure", measure)) == 3


async def test_any_type_that_pydantic_knows_will_do() -> None:
    def typed(_ctx: Context, a: Point, b: list[int], c: int | None) -> list[Any]:
        return [a.x, sum(b), c]

    steps = (Step("a", lambda: {"x": "7"}), Step("b", lambda: ["1", 2]), Step("c", lambda: None))
    assert await run(*steps, Step("typed", typed)) == [7, 3, None]


async def test_options_come_as_their_model_with_its_defaults() -> None:
    def dig(_ctx: Context, options: Options) -> int:
        return options.depth

    assert await run(Step("dig", dig, options={"depth": 3})) == 3
    assert await run(Step("dig", dig, options=Options())) == 1


async def test_options_that_do_not_fit_are_refused_when_the_step_is_made() -> None:
    def dig(_ctx: Context, options: Options) -> int:
        return options.depth

    with pytest.raises(ValueError, match=r"step 'dig': .*options\.depth: .*greater than or equal to 1"):
        Step("dig", dig, options={"depth": 0})
    with pytest.raises(ValueError, match=r"step 'dig': .*options: "):
        Step("dig", dig)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            {"url": "/a", "size": -1},
            r"Step 'measure' cannot use .*the output of 'fetch'\.size: .*greater than or equal",
        ),
        (None, "the output of 'fetch': "),
    ],
)
async def test_what_does_not_fit_fails_the_step_with_the_field_and_is_not_tried_again(
    output: object, sentence: str
) -> None:
    on = RecordedRun()

    def measure(_ctx: Context, fetch: Page) -> int:
        return fetch.size

    with pytest.raises(StepInputInvalidError, match=sentence):
        await run(Step("fetch", lambda: output), Step("measure", measure, retries=3), on=on)
    assert on.data_of("step.failed")["reason"] == "invalid_input"
    assert "step.retrying" not in on.types


async def test_input_of_the_pipelines_model_is_read_as_the_steps() -> None:
    class Wide(BaseModel):
        url: str
        more: int = 1

    def look(_ctx: Context, given: Given) -> str:
        return given.url

    assert await run(Step("look", look), given=Wide(url="/b")) == "/b"


class Methods:
    async def step(self, ctx: Context, given: Given) -> str:
        return f"{ctx.step} {given.url}"

    async def __call__(self, ctx: Context) -> str:
        return ctx.step


async def by_position(ctx: Context, given: Given, /, outputs: Outputs) -> list[Any]:
    return [ctx.step, given.url, dict(outputs)]


async def with_default(ctx: Context, missing: int = 7) -> int:
    return missing + len(ctx.step)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Methods().step, "s /a"),
        (Methods(), "s"),
        (functools.partial(Methods().step), "s /a"),
        (lambda: "nothing asked", "nothing asked"),
        (lambda ctx: ctx.step, "s"),
        (lambda _ctx, _outputs: dict(_outputs), {}),
        (by_position, ["s", "/a", {}]),
        (with_default, 8),
    ],
)
async def test_whatever_can_be_called_may_be_a_step(function: StepFunction, expected: object) -> None:
    assert await run(Step("s", function)) == expected


async def test_a_plain_function_may_ask_for_the_plain_context() -> None:
    on = RecordedRun()

    def plain(ctx: PlainContext) -> str:
        ctx.log("from a thread")
        return type(ctx).__name__

    assert await run(Step("plain", plain), on=on) == "PlainContext"
    assert on.data_of("log")["text"] == "from a thread"


def misspelt(_ctx: Context, fecth: Page) -> None:
    pass


def unreadable(_ctx: Context, fetch: Unknown) -> None:
    pass


def untold(_ctx: Context, fetch: Elsewhere) -> None:  # type: ignore[name-defined]  # noqa: F821 - what the test is about
    pass


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (misspelt, "parameter 'fecth' names nothing that it could get; there are: given, options, outputs, fetch"),
        (unreadable, r"parameter 'fetch' is annotated with .*Unknown.*, which pydantic cannot make"),
        (untold, "annotation of parameter 'fetch' is not known at run time.*at the top of the module"),
    ],
)
async def test_a_function_that_could_never_be_called_is_refused_with_the_cure(
    function: StepFunction, problem: str
) -> None:
    with pytest.raises(ValueError, match=rf"step 's': .*{problem}"):
        Pipeline("p", (Step("fetch", fetch), Step("s", function)))


async def _nothing(_ctx: Context) -> None:
    pass


@pytest.mark.parametrize(
    "nodes", [(Step("a-b", _nothing), Step("a_b", _nothing)), (Step("a.b", _nothing), Parallel(Step("a b", _nothing)))]
)
def test_attack_76_steps_that_a_parameter_cannot_tell_apart_are_refused(nodes: tuple[Node, ...]) -> None:
    with pytest.raises(ValueError, match=r"'a.b' and 'a.b' are the same parameter, 'a_b'; rename one"):
        Pipeline("p", nodes)
