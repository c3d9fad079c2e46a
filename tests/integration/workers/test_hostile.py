"""A worker outlives what it runs, whatever that does, within limits of time and memory."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tailrace.bus import Bus, BusSettings
from tailrace.bus.model.codec import decode
from tests.integration.workers.hostile import ENDLESS, FUNCTIONS, PROCESS_SECONDS, PROGRAM_SECONDS, PROGRAMS, REFUSED

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

ROOT: Final = Path(__file__).parents[3]
# Between SIGTERM and SIGKILL, the output's drain, and what a busy machine takes for both.
ENDING_SECONDS: Final = 20.0
# Four programs at a time, each with its buffers: 64 KiB of a pipe, 256 KiB of output, 16 MiB of events.
MAX_GROWTH_BYTES: Final = 160 * 1024 * 1024
SENTENCE: Final = re.compile(r"[A-Z'][^\n]{0,4000}\.")


@pytest.fixture
def settings(prefix: str) -> BusSettings:
    return BusSettings(prefix=prefix)


@pytest.fixture
def worker(server_url: str, prefix: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.integration.workers.hostile", server_url, prefix]
    with subprocess.Popen(command, cwd=ROOT) as process:
        yield process
        assert process.poll() is None, "the worker did not outlive it"
        process.terminate()


def peak_bytes(process: subprocess.Popen[bytes]) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def ending_of(bus: Bus, execution_id: str, *, seconds: float) -> dict[str, Any]:
    """The last entry's type and data, and the seconds that it took, by the log's own clock."""
    async with asyncio.timeout(seconds):
        while (state := await bus.state(execution_id)) is None or not state.ended:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.1)
    assert state.started_ms is not None
    assert state.ended_ms is not None
    raw: Any = await bus.commands.command("XREVRANGE", bus.keys.log(execution_id), "+", "-", "COUNT", 1)
    entry = decode(*raw[0])
    return {"type": entry.type, **entry.data, "seconds": (state.ended_ms - state.started_ms) / 1000}


async def warm(bus: Bus) -> None:
    execution_id = await bus.submit("program", {"argv": ["true"]})
    assert (await ending_of(bus, execution_id, seconds=120))["type"] == "execution.completed"


def check(name: str, ending: dict[str, Any]) -> None:
    if ending["type"] == "execution.completed":
        return
    assert ending["type"] in {"execution.failed", "execution.timed_out"}, (name, ending)
    if ending["reason"] != "exception":  # whose words are the function's own
        assert SENTENCE.fullmatch(ending["message"]), (name, ending)
    assert 0 < len(ending["message"]) <= 4000, name


async def test_attack_12_each_hostile_program_ends_in_a_sentence_within_its_time_and_memory(
    bus: Bus, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    await warm(bus)
    before = peak_bytes(worker)
    ids = {}
    for index, (name, given) in enumerate(PROGRAMS.items()):
        directory = tmp_path / str(index)
        directory.mkdir()
        ids[name] = await bus.submit("program", {"cwd": str(directory), **given})
    for name, execution_id in ids.items():
        ending = await ending_of(bus, execution_id, seconds=300)
        check(name, ending)
        assert ending["type"] == "execution.failed" or name not in REFUSED, (name, ending)
        assert ending["type"] == "execution.timed_out" or name not in ENDLESS, (name, ending)
        assert ending["seconds"] <= PROGRAM_SECONDS + ENDING_SECONDS, name
    assert peak_bytes(worker) - before <= MAX_GROWTH_BYTES


async def test_attack_12_each_hostile_process_step_ends_in_a_sentence_within_its_time_and_memory(
    bus: Bus, worker: subprocess.Popen[bytes]
) -> None:
    await warm(bus)
    before = peak_bytes(worker)
    ids = {each.__name__: await bus.submit("process", {"name": each.__name__}) for each in FUNCTIONS}
    for name, execution_id in ids.items():
        ending = await ending_of(bus, execution_id, seconds=300)
        check(name, ending)
        assert ending["seconds"] <= PROCESS_SECONDS + ENDING_SECONDS, name
    assert peak_bytes(worker) - before <= MAX_GROWTH_BYTES
