"""What the pages of the examples say that a program prints: ``python -m tests.e2e.transcripts`` writes it there anew.

Such a block stands behind a comment that names the program: ``<!-- printed by: python -m examples.NAME.story -->``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.patience import patient

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ROOT / "docs" / "examples"
BLOCK: Final = re.compile(r"<!-- printed by: python (?P<command>[^>]+?) -->\n```text\n(?P<text>.*?)```\n", re.DOTALL)


@dataclass(frozen=True)
class Printed:
    page: Path
    command: str
    text: str


def printed() -> Iterator[Printed]:
    for page in sorted(PAGES.glob("*.md")):
        for block in BLOCK.finditer(page.read_text()):
            yield Printed(page, block["command"], block["text"])


def run(command: str) -> str:
    """What it prints. Raises AssertionError with the rest of what it says when it fails."""
    ran = subprocess.run(
        [sys.executable, *command.split()], cwd=ROOT, capture_output=True, text=True, timeout=patient(60), check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def shape_of(text: str) -> list[str]:
    """Without what differs from run to run: numbers, ids, and into how many pieces a text is cut."""
    lines: list[str] = []
    for line in text.splitlines():
        plain = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|[0-9a-f]{16,}", "ID", line)
        plain = re.sub(r'"token": ?"[^"]*"', '"token":"TEXT"', plain)
        plain = re.sub(r"-?\d+(\.\d+)?", "N", plain)
        if lines[-1:] != [plain]:
            lines.append(plain)
    return lines


if __name__ == "__main__":
    for each in printed():
        whole = each.page.read_text()
        block = f"python {each.command} -->\n```text\n"
        each.page.write_text(whole.replace(block + each.text, block + run(each.command)))
