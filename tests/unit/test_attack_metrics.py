"""What the documentation says is counted, some test makes count."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def test_attack_16_every_metric_that_the_docs_name_is_looked_at_by_a_test() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    tests = "".join(test.read_text() for test in (ROOT / "tests").rglob("test_*.py") if test != Path(__file__))
    documented = set(re.findall(r"tailrace_[a-z_]+[a-z]", pages))
    assert len(documented) > 15
    # A test may name it as Prometheus does, or as the counter behind it.
    assert [
        name
        for name in sorted(documented)
        if not re.search(rf"\b(tailrace_)?{name.removeprefix('tailrace_').removesuffix('_total')}", tests)
    ] == []
