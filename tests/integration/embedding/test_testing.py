"""The pytest plugin, as an application's own tests use it: found by itself, in a test run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import redis

from tests.e2e.docs_support_page import Page
from tests.patience import patient
from tests.servers import RunningServer

ROOT: Final = Path(__file__).parents[3]

APPLICATION_TEST: Final = """
import pytest

from tailrace import Entry, Event
from tailrace.testing import assert_events, open_test_bus, recording

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_events_are_those_expected(tailrace_bus):
    async with recording(tailrace_bus, "answer") as recorder:
        async with tailrace_bus.execution("answer") as execution:
            await execution.emit("custom.progress", {"done": 1, "of": 2})
            await execution.emit("token", {"text": "taken back"}, step="model")
            await execution.emit("token.reset", {"attempt": 2}, step="model")
            for word in ("as ", "soon ", "as ", "possible"):
                await execution.emit("token", {"text": word})
            await execution.emit("custom.progress", {"done": 2, "of": 2})
            execution.result = {"words": 4}
        await recorder.until("execution.completed")
        assert recorder.text == "as soon as possible"
        assert recorder.of("custom.progress") == [{"done": 1, "of": 2}, {"done": 2, "of": 2}]
        assert recorder.gaps == []
    entries = await assert_events(
        tailrace_bus,
        "answer",
        "execution.started",
        ...,
        ("custom.progress", {"done": 2}),
        ("execution.completed", {"result": {"words": 4}}),
    )
    assert isinstance(entries[0], Entry)


async def test_every_test_has_keys_of_its_own(tailrace_bus):
    assert await tailrace_bus.state("answer") is None


async def test_leases_are_short(tailrace_settings):
    async with open_test_bus(tailrace_settings) as bus:
        assert bus.settings.lease_seconds == 1.0
        assert bus.settings.redis_url.get_secret_value().startswith("unix://")


async def test_it_says_what_came_instead(tailrace_bus):
    async with tailrace_bus.execution("answer") as execution:
        await execution.emit("custom.progress", {"done": 1})
    with pytest.raises(AssertionError) as told:
        await assert_events(tailrace_bus, "answer", "execution.started", ("custom.progress", {"done": 2}), ...)
    assert "('custom.progress', {'done': 2})" in str(told.value)
    assert 'custom.progress {"done":1}' in str(told.value)
    async with recording(tailrace_bus, "answer") as recorder:
        with pytest.raises(AssertionError, match=r"custom.never has not come within 0.2 s; there are: \\['execution"):
            await recorder.until("custom.never", timeout_seconds=0.2)


@pytest.mark.parametrize(
    ("expected", "fits"),
    [
        ([...], True),
        (["execution.started", ...], True),
        ([..., "execution.completed"], True),
        ([..., "custom.a", "custom.b", ..., "custom.a", ...], True),
        (["execution.started", "custom.a", "custom.b", "custom.a", "execution.completed"], True),
        ([..., "custom.b", "custom.b", ...], False),
        (["execution.started"], False),
        (["execution.started", "execution.completed"], False),
        ([..., "custom.a"], False),
        ([..., "custom.b", ..., "custom.b", ...], False),
        ([..., ("custom.a", 1), ...], True),
        ([..., ("custom.a", 4), ...], False),
    ],
)
async def test_dots_stand_for_any_number_of_events(tailrace_bus, expected, fits):
    async with tailrace_bus.execution("run") as execution:
        for number, kind in enumerate(("custom.a", "custom.b", "custom.a")):
            await execution.emit(kind, number + 1 if kind == "custom.a" else None)
    if fits:
        await assert_events(tailrace_bus, "run", *expected)
    else:
        with pytest.raises(AssertionError):
            await assert_events(tailrace_bus, "run", *expected)
"""


# As for whoever has trio installed, and does not want his tests to run twice.
ONLY_ASYNCIO: Final = """
import pytest


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def run_of(
    folder: Path, *options: str, shown: str = APPLICATION_TEST, **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "test_application.py").write_text(shown)
    plugins = ("-p", "no:cacheprovider", "-p", "no:randomly")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), *plugins, *options, str(folder)],
        cwd=folder,
        env={**{name: value for name, value in os.environ.items() if "PYTEST" not in name}, **environment},
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )


def test_an_applications_tests_have_a_bus_on_a_server_of_their_own(tmp_path: Path) -> None:
    done = run_of(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "16 passed" in done.stdout


def test_the_documented_test_passes_as_it_stands(tmp_path: Path) -> None:
    page = Page("docs/fastapi.md", (ROOT / "docs/fastapi.md").read_text())
    (shown,) = [block for block in page.blocks_of("python") if "tailrace.testing" in block]
    (tmp_path / "conftest.py").write_text(ONLY_ASYNCIO)
    done = run_of(tmp_path, shown=shown)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_each_process_of_a_test_run_has_a_server_of_its_own(tmp_path: Path) -> None:
    done = run_of(tmp_path, "-n", "2")
    assert done.returncode == 0, done.stdout
    assert "16 passed" in done.stdout


def test_a_server_that_the_environment_names_is_used_and_left_as_it_was(
    tmp_path: Path, fresh_server: RunningServer
) -> None:
    url = fresh_server.url
    done = run_of(tmp_path, "-k", "own or expected", TAILRACE_TEST_REDIS_URL=url)
    assert done.returncode == 0, done.stdout
    with redis.Redis.from_url(url) as looking:
        assert looking.keys("test-*") == []
        assert looking.info("commandstats")["cmdstat_xadd"]["calls"] > 0


def test_a_test_run_that_does_not_use_the_plugin_loads_nothing_of_ours(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n\n\ndef test_nothing():\n    assert not [name for name in sys.modules if 'tailrace.bus' in name]\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )
    assert done.returncode == 0, done.stdout
