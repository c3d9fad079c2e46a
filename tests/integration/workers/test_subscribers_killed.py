"""Handlers in processes of their own, which are killed: nothing is missing, and what comes again is marked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tailrace.bus import Bus
from tests.integration.workers.conftest import LEASE_SECONDS
from tests.integration.workers.watching import until

pytestmark = pytest.mark.anyio

RUNS: Final = 6
EVENTS: Final = 60

_PROGRAM: Final = """
import asyncio, sys
from tailrace.bus import open_bus
from tailrace.workers.handlers import Handlers
from tailrace.workers.handlers import JsonlFile

async def main():
    handlers = Handlers()
    handlers.add(JsonlFile(sys.argv[1]))
    async with await open_bus() as bus:
        await handlers.follow_all(bus, "billing")

asyncio.run(main())
"""


@contextmanager
def handling(file: Path, url: str, prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    environment |= {
        "TAILRACE_TEST_SESSION": os.environ["TAILRACE_TEST_SESSION"],
        "TAILRACE_REDIS_URL": url,
        "TAILRACE_PREFIX": prefix,
        "TAILRACE_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(file)], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def handled(*files: Path) -> list[dict[str, Any]]:
    """All whole lines; a killed process may have torn its last one."""
    lines = [line for file in files if file.exists() for line in file.read_bytes().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


async def work(bus: Bus, run: str, go_on: asyncio.Event) -> None:
    async with bus.execution(run) as execution:
        for number in range(EVENTS):
            await execution.emit("custom.n", {"n": number})
            if number == EVENTS // 2:
                await go_on.wait()


async def test_a_killed_process_loses_nothing_and_its_successor_marks_what_may_be_repeated(
    bus: Bus, server_url: str, prefix: str, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    runs = [f"run-{number}" for number in range(RUNS)]
    go_on = asyncio.Event()
    with handling(first, server_url, prefix) as doomed:
        working = asyncio.gather(*(work(bus, run, go_on) for run in runs))
        half = RUNS * (EVENTS // 2)
        await until(lambda: len(handled(first)) >= half // 2)
        doomed.send_signal(signal.SIGKILL)
        doomed.wait()
        with handling(second, server_url, prefix):
            go_on.set()
            await working
            await until(lambda: sum(line["type"] == "execution.completed" for line in handled(first, second)) >= RUNS)
    before, after = handled(first), handled(second)
    for run in runs:
        numbers = [line["data"]["n"] for line in before + after if line["type"] == "custom.n" and _is_of(line, run)]
        assert sorted(set(numbers)) == list(range(EVENTS))
        ids = [line["id"] for line in before if _is_of(line, run)]
        assert len(set(ids)) == len(ids)
        again = [line for line in after if _is_of(line, run) and line["id"] in ids]
        assert all(line.get("repeated") for line in again)
        print(f"{run}: {len(ids)} before the death, {len(again)} of them again")
    assert not any(line.get("repeated") for line in before)


async def test_a_process_that_is_told_to_stop_repeats_nothing(
    bus: Bus, server_url: str, prefix: str, tmp_path: Path
) -> None:
    """SIGINT cancels the main task of asyncio.run."""
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    go_on = asyncio.Event()
    with handling(first, server_url, prefix) as stopping:
        working = asyncio.create_task(work(bus, "run", go_on))
        await until(lambda: len(handled(first)) > EVENTS // 2)
        stopping.send_signal(signal.SIGINT)
        await asyncio.to_thread(stopping.wait, 30)
        with handling(second, server_url, prefix):
            go_on.set()
            await working
            await until(lambda: any(line["type"] == "execution.completed" for line in handled(second)))
    lines = handled(first, second)
    assert [line["data"]["n"] for line in lines if line["type"] == "custom.n"] == list(range(EVENTS))
    assert not any(line.get("repeated") for line in lines)


def _is_of(line: dict[str, Any], run: str) -> bool:
    return bool(line["execution_id"] == run)
