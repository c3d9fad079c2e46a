"""Digits of other scripts, as "²" and "٣", are no numbers anywhere: ``int`` refuses some of them, and takes others."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import tailrace
from tailrace.bus.model.fields import number

ROOT = Path(tailrace.__file__).parent
ASKS = {"isdigit", "isdecimal", "isnumeric"}
# What is not read as a number, and what is bytes, whose digits are only 0 to 9.
WELL = {
    "bus/embedded/supervisor.py": 1,
    "bus/model/reading.py": 1,
    "workers/builtin/document/sentences.py": 1,
    "workers/builtin/document/summary.py": 1,
    "workers/definition/context.py": 1,
}


def asked_without_ascii(source: str) -> Iterator[str]:
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string in ASKS and "isascii" not in lines[token.start[0] - 1]:
            yield token.line.strip()


def test_attack_60_whether_text_is_a_number_is_asked_of_ascii_alone() -> None:
    found: dict[str, list[str]] = {}
    read = 0
    for part in ("bus", "cli", "gateway", "workers"):
        folder = (ROOT / part).resolve()
        for path in sorted(folder.rglob("*.py")):
            name = f"{part}/{path.relative_to(folder).as_posix()}"
            asked = list(asked_without_ascii(path.read_text(encoding="utf-8")))
            read += 1
            if len(asked) > WELL.get(name, 0):
                found[name] = asked
    assert read > 100, "the source is not where it was looked for"
    assert found == {}, "use tailrace.bus.model.fields.number, or ask isascii on the same line"


@pytest.mark.parametrize("text", ["²", "٣", "1²", "", "+1", " 1", "1_0", "9" * 21])
def test_attack_60_digits_of_other_scripts_are_no_number(text: str) -> None:
    assert number(text) is None
    assert number(text.encode()) is None
