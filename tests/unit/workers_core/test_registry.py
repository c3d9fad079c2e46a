from __future__ import annotations

import pytest

from workers import Pipeline, PipelineUnknownError, PipelineWithheldError, Registry, Step, built_in
from workers.context import Context


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
    with pytest.raises(PipelineWithheldError, match=r"--allow-command"):
        built_in(allow_command=False).get("command")
    assert built_in(allow_command=True).get("command").name == "command"
    assert built_in(allow_command=False).names == ["document", "pipeline"]


def test_a_program_is_never_begun_twice() -> None:
    """Nobody knows what it had done when its worker was lost."""
    assert built_in(allow_command=True).get("command").max_attempts == 1
