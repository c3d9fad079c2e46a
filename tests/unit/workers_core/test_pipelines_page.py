"""docs/pipelines.md says what is so. Its Python and shell are run by tests/e2e/test_docs.py."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tailrace.workers import Condition, Context, Streaming, built_in
from tailrace.workers.definition.blueprint import Blueprint, StepBlueprint
from tests.e2e.docs_support_page import Page

PAGE: Final = Page("docs/pipelines.md", (Path(__file__).parents[3] / "docs/pipelines.md").read_text())


def table(first_heading: str) -> list[str]:
    """The first cells of the table whose first column is headed so."""
    rows = [row[0].strip("`") for row in PAGE.rows]
    sizes = [len(row) for row in PAGE.rows]
    start = rows.index(first_heading) + 1
    heads = {"parameter", "call", "comparison", "step", "what", *[row for row in rows if row.startswith("field of ")]}
    end = next((n for n in range(start, len(rows)) if rows[n] in heads or sizes[n] != sizes[start]), len(rows))
    return rows[start:end]


@pytest.mark.parametrize(
    ("heading", "fields"),
    [
        ("field of the document", Blueprint.model_fields),
        ("field of a step", StepBlueprint.model_fields),
        ("field of streaming", Streaming.model_fields),
    ],
)
def test_the_fields_are_those_of_the_code(heading: str, fields: dict[str, object]) -> None:
    assert table(heading) == list(dict.fromkeys(table(heading)))
    assert set(table(heading)) == set(fields)


def test_the_comparisons_are_those_of_the_code() -> None:
    names = [field.alias or name for name, field in Condition.model_fields.items()]
    assert table("comparison") == [name for name in names if name not in {"step", "path"}]


def test_the_steps_are_those_that_every_worker_has() -> None:
    assert set(table("step")) == set(built_in(allow_command=False).steps)


def test_the_calls_are_those_of_the_context() -> None:
    calls = [cell.removeprefix("ctx.").partition("(")[0] for cell in table("call")]
    assert all(callable(getattr(Context, name)) for name in calls)
    awaited = {name for name, value in vars(Context).items() if callable(value) and not name.startswith("_")}
    assert set(calls) == awaited - {"from_thread"}
