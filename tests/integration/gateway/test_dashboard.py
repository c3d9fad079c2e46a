"""The dashboard that comes with Tailrace shows what a gateway really says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

pytestmark = pytest.mark.anyio

DASHBOARD: Final = Path(__file__).parents[3] / "docs" / "grafana" / "tailrace.json"
_NAME: Final = re.compile(r"\b(?:tailrace|process)_[a-z0-9_]+")


def expressions() -> Iterator[str]:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (str(each["definition"]) for each in dashboard["templating"]["list"] if "definition" in each)


async def test_every_metric_of_the_dashboard_is_there_from_a_gateways_first_moment(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics")).text
    there = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    shown = {name for expression in expressions() for name in _NAME.findall(expression)}
    assert len(shown) > 15
    assert shown <= there


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
