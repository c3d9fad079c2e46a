from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.workers import (
    Pipeline,
    PipelineNotAllowedError,
    PipelineUnknownError,
    Registry,
    RegistryInvalidError,
    Step,
    StepRegistry,
    built_in,
    load_registry,
)
from tailrace.workers.definition.context import Context


async def nothing(_ctx: Context) -> None:
    pass


def named(name: str) -> Pipeline:
    return Pipeline(name, (Step("only", nothing),))


def test_an_unknown_pipeline_is_told_with_those_that_are_known() -> None:
    registry = Registry([named("scan"), named("ingest")])
    with pytest.raises(PipelineUnknownError, match="no pipeline 'scam' on this worker; it knows: ingest, scan"):
        registry.get("scam")


def test_a_name_of_a_megabyte_makes_no_sentence_of_a_megabyte() -> None:
    with pytest.raises(PipelineUnknownError) as raised:
        Registry([]).get("x" * 1_000_000)
    assert len(str(raised.value)) < 300


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="more than one is named 'scan'"):
        Registry([named("scan"), named("scan")])


def test_programs_run_only_where_the_operator_allows_it() -> None:
    with pytest.raises(PipelineNotAllowedError, match=r"--allow-command"):
        built_in(allow_command=False).get("command")
    assert built_in(allow_command=True).get("command").name == "command"
    assert built_in(allow_command=False).names == ["document", "pipeline"]


def test_a_program_is_never_begun_twice() -> None:
    """Nobody knows what it had done when its worker was lost."""
    assert built_in(allow_command=True).get("command").max_attempts == 1


def test_registries_are_joined_with_all_that_they_have() -> None:
    steps = StepRegistry()
    steps.add("dig", nothing)
    joined = built_in(allow_command=False).joined(Registry([named("scan")], steps=steps))
    assert joined.names == ["document", "pipeline", "scan"]
    assert "dig" in joined.steps
    with pytest.raises(PipelineNotAllowedError):
        joined.get("command")
    with pytest.raises(ValueError, match="more than one is named 'document'"):
        built_in(allow_command=False).joined(Registry([named("document")]))


def test_no_pipeline_may_take_the_name_of_those_from_json() -> None:
    with pytest.raises(ValueError, match="the name 'pipeline' is reserved for pipelines submitted as JSON"):
        built_in(allow_command=False).joined(Registry([named("pipeline")]))


MODULE = """
from tailrace.workers import Pipeline, Registry, Step, StepRegistry

steps = StepRegistry()
steps.add("dig", lambda: None)
one = Pipeline("one", (Step("only", lambda: None),))
several = [one, Pipeline("two", (Step("only", lambda: None),))]
registry = Registry([one], steps=steps)
twice = [one, one]
nothing = []
number = 7
class inner:
    registry = registry
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the current folder, as an operator's may be."""
    name = f"app_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text("1 / 0")
    (tmp_path / f"{name}_needy.py").write_text("import no_such_thing_at_all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    for each in [each for each in sys.modules if each.startswith(name)]:
        del sys.modules[each]


@pytest.mark.parametrize(
    ("attribute", "names"),
    [
        ("one", ["one"]),
        ("several", ["one", "two"]),
        ("registry", ["one", "pipeline"]),
        ("inner.registry", ["one", "pipeline"]),
        ("steps", ["pipeline"]),
    ],
)
def test_an_operators_pipelines_are_found_in_a_module(app: str, attribute: str, names: list[str]) -> None:
    assert load_registry(f"{app}:{attribute}").names == names


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("{app}", "expected module:attribute"),
        ("{app}:", "expected module:attribute"),
        (":one", "expected module:attribute"),
        ("../{app}:one", "expected module:attribute"),
        ("{app}:three", "has no attribute 'three'"),
        ("{app}:nothing", "it is a list; expected a Registry"),
        ("{app}:number", "it is a int; expected a Registry"),
        ("{app}:twice", "more than one is named 'one'"),
        ("no_such_app:one", "there is no module 'no_such_app', neither installed nor in"),
        ("{app}.sub:one", "there is no module"),
        ("{app}_broken:one", "raised ZeroDivisionError: division by zero"),
        ("{app}_needy:one", "needs 'no_such_thing_at_all', which is not installed"),
    ],
)
def test_what_holds_no_pipelines_is_refused_with_the_cure(app: str, spec: str, problem: str) -> None:
    with pytest.raises(RegistryInvalidError, match=problem):
        load_registry(spec.format(app=app))
