"""An operator's own pipelines, as docs/pipelines.md shows them, on ``tailrace worker --pipelines``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tailrace.bus import Bus
from tests.integration.cli.processes import call, family
from tests.integration.workers.watching import watch

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[3] / "docs/pipelines.md"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module that the page writes, in the folder where the worker is started, and a step that is a process."""
    (module,) = re.findall(r'"my_app\.py"\)\.write_text\(\'\'\'\n(.*?)\'\'\'\)', PAGE.read_text(), re.DOTALL)
    more = (
        '\n\n@steps.step("add", process=True)\ndef add(ctx: Context) -> int:\n    print("adding")\n    return 1 + 1\n'
    )
    file = tmp_path / "my_app.py"
    file.write_text(module.replace("\n\nregistry =", f"{more}\n\nregistry ="))
    monkeypatch.chdir(tmp_path)
    return file


async def test_they_run_beside_those_that_come_with_tailrace(bus: Bus, app: Path, server_url: str, prefix: str) -> None:
    start = ("worker", "--pipelines", "my_app:registry", "--redis-url", server_url)
    with family(app.with_name("worker.log"), *start, env={"TAILRACE_PREFIX": prefix}) as worker:
        assert "pipelines document, greeting, pipeline," in worker.await_words("worker ready")
        own = await watch(bus, await bus.submit("greeting", {}))
        steps = [
            {"name": "greet", "options": {"times": 3}},
            {"name": "say", "run": "log", "options": {"text": "x"}},
            "add",
        ]
        from_json = await watch(bus, await bus.submit("pipeline", {"name": "both", "steps": steps}))
        wrong = {"name": "greet", "options": {"times": 11}}
        refused = await watch(bus, await bus.submit("pipeline", {"name": "wrong", "steps": [wrong]}))
    assert "".join(entry.data["text"] for entry in own if entry.type == "token") == "hello hello "
    assert own[-1].data["result"] == "greeted"
    assert from_json[-1].data["result"] == 2
    assert ("adding", "stdout") in [(e.data["text"], e.data.get("stream")) for e in from_json if e.type == "log"]
    assert "options.times: Input should be less than or equal to 10" in refused[-1].data["message"]


def test_what_cannot_be_loaded_is_told_in_one_line_before_anything_starts(app: Path) -> None:
    done = call("worker", "--pipelines", f"{app.stem}:nothing")
    assert done.returncode == 64
    assert done.stderr.count("\n") == 1
    assert (
        "--pipelines: The pipelines 'my_app:nothing' cannot be used: the module 'my_app' has no attribute"
        in done.stderr
    )
