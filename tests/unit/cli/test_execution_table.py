from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tailrace.cli.text.execution_table import table_of

NOW = 1767323045.678  # 2026-01-02T03:04:05.678Z


def item(execution_id: str, **more: Any) -> dict[str, Any]:
    return {
        "execution_id": execution_id,
        "status": "running",
        "pipeline": "document",
        "tenant": None,
        "owner": "host-4711-0b6f0a.1",
        "attempt": 1,
        "created": "2026-01-02T03:00:00.000000Z",
        **more,
    }


def shown(items: list[dict[str, Any]], width: int = 200) -> list[list[str]]:
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(table_of(items, NOW))
    return [line.split() for line in text.getvalue().splitlines()]


def test_a_row_tells_what_one_looks_for_first() -> None:
    assert shown([item("build-7")]) == [
        ["ID", "STATUS", "PIPELINE", "ATTEMPT", "AGE", "OWNER"],
        ["build-7", "running", "document", "1", "4m05s", "host-4711-0b6f0a.1"],
    ]


def test_what_is_not_known_is_a_dash_and_a_tenant_stands_where_there_is_one() -> None:
    rows = shown([item("a", tenant="acme"), item("b", owner=None, pipeline=None, status="queued")])
    assert rows[0][3] == "TENANT"
    assert rows[1][3] == "acme"
    assert rows[2] == ["b", "queued", "-", "-", "1", "4m05s", "-"]


@pytest.mark.parametrize("width", [36, 40, 60, 80])
def test_an_id_is_whole_on_a_narrow_screen(width: int) -> None:
    execution_id = "019a5c3e-7d51-7c3a-9f5e-0b6f0a9d2c11"
    assert shown([item(execution_id)], width)[1][0] == execution_id


def test_what_a_stranger_wrote_commands_no_terminal_and_is_no_markup() -> None:
    rows = shown([item("a", owner="[red]\x1b[31mx", pipeline="p\u202eq")])
    assert rows[1][-1] == "[red]\\x1b[31mx"
    assert rows[1][2] == "p\\u202eq"
