"""Steps that are processes of their own, on a real worker."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tailrace.bus import Bus, Entry
from tailrace.workers import Parallel, Pipeline, Registry, Step
from tailrace.workers.definition.pipeline import Node, StepFunction
from tests.integration.workers import programs
from tests.integration.workers.programs import Given
from tests.integration.workers.watching import types_of, until, watch, working

pytestmark = pytest.mark.anyio

GIVEN = {"url": "/a"}


async def run(bus: Bus, *nodes: Node, given: dict[str, Any] | None = None) -> list[Entry]:
    async with working(bus, Registry([Pipeline("p", nodes, Given)])):
        return await watch(bus, await bus.submit("p", given or GIVEN))


def process(function: StepFunction, name: str = "step", **options: Any) -> Step:
    return Step(name, function, process=True, **options)


def is_alive(pid: int) -> bool:
    """A zombie that nobody has reaped runs no more."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def data_of(entries: list[Entry], event_type: str) -> Any:
    return [entry.data for entry in entries if entry.type == event_type]


async def test_a_step_runs_in_another_process_and_says_all_that_a_step_can_say(bus: Bus) -> None:
    entries = await run(bus, process(programs.fetch, "fetch"), process(programs.measure, "measure"))
    result = entries[-1].data["result"]
    assert result[:3] == ["Page", 3, ["fetch"]]
    assert result[3] != os.getpid()
    of_fetch = [entry for entry in entries if entry.step == "fetch"]
    said = {entry.type: entry.data for entry in of_fetch if entry.type != "log"}
    assert said["step.progress"] == {"progress": 0.5, "message": "half way"}
    assert "".join(data["text"] for data in data_of(of_fetch, "token")) == "some \U0001f600 text \ufffd"
    assert said["metric"] == {"name": "bytes", "value": 3, "unit": "B"}
    assert said["quality.check"] == {"name": "size", "score": 0.9, "passed": True}
    assert said["custom.fetched"] == {"url": "/a"}
    assert [entry.meta for entry in of_fetch if entry.type == "custom.fetched"] == [{"mode": "custom"}]
    assert [entry.encoding for entry in of_fetch if entry.type == "custom.raw"] == ["binary"]
    assert said["step.completed"]["output"] == {"url": "/a", "size": 3}


async def test_what_a_process_prints_is_in_the_log_before_its_end(bus: Bus) -> None:
    entries = await run(bus, process(programs.fetch))
    printed = [(entry.data["stream"], entry.data["text"]) for entry in entries if entry.type == "log"]
    assert sorted(printed) == [("stderr", "complained"), ("stdout", "printed")]
    assert types_of(entries).index("step.completed") > max(
        index for index, entry in enumerate(entries) if entry.type == "log"
    )


async def test_processes_run_side_by_side_each_in_its_own(bus: Bus) -> None:
    entries = await run(bus, Parallel(process(programs.tell_pid, "a"), process(programs.tell_pid, "b")))
    pids = set(entries[-1].data["result"].values())
    assert len(pids) == 2
    assert os.getpid() not in pids


async def test_what_a_process_raises_is_the_steps_failure(bus: Bus) -> None:
    entries = await run(bus, process(programs.fail))
    for entry in entries[-2:]:
        told = {"reason": "odd", "message": "it went wrong", "where": "here", "raised": "ValueError"}
        assert entry.data.items() >= told.items()


@pytest.mark.parametrize(
    ("function", "reason", "sentence"),
    [
        (programs.leave, "step_exited", r"called sys.exit(3)"),
        (programs.crash, "process_lost", "was ended by SIGSEGV before it gave an output"),
        (programs.vanish, "process_lost", "exited with code 7 before it gave an output"),
        (programs.give_object, "invalid_output", "cannot be stored"),
        (programs.measure, "invalid_input", ""),
    ],
)
async def test_a_process_that_ends_badly_ends_only_its_step(
    bus: Bus, function: StepFunction, reason: str, sentence: str
) -> None:
    before = [Step("fetch", lambda: {"url": "/a", "size": -1})] if function is programs.measure else []
    entries = await run(bus, *before, process(function))
    assert types_of(entries)[-2:] == ["step.failed", "execution.failed"]
    assert entries[-1].data["reason"] == reason
    assert sentence in entries[-1].data["message"]


async def test_a_large_output_comes_through(bus: Bus) -> None:
    entries = await run(bus, process(programs.give_much))
    assert entries[-1].data["result"] == {"output_of": "step", "output_bytes": 1_000_005}


async def test_what_cannot_be_said_is_refused_in_the_process(bus: Bus) -> None:
    entries = await run(bus, process(programs.say_wrong))
    assert entries[-1].data["result"] == ["type", "type", "data", "data"]


async def test_a_process_is_tried_again_with_what_it_kept(bus: Bus) -> None:
    entries = await run(bus, process(programs.fail_once, retries=1, retry_delay_seconds=0.01))
    assert entries[-1].data["result"] == {"page": 7}
    assert "step.retrying" in types_of(entries)


async def test_a_process_that_hears_nothing_is_killed_with_all_that_it_started_when_its_time_is_up(bus: Bus) -> None:
    entries = await run(bus, process(programs.block, timeout_seconds=8))
    assert entries[-1].data["reason"] == "timeout"
    pids = [int(pid) for data in data_of(entries, "log") for pid in data["text"].split()]
    assert len(pids) == 2
    await until(lambda: not any(map(is_alive, pids)))


async def test_a_siblings_failure_ends_a_process(bus: Bus) -> None:
    started = threading.Event()

    async def fail_then() -> None:
        await asyncio.to_thread(started.wait)
        raise OSError("away")

    registry = Registry([Pipeline("p", (Parallel(process(programs.block, "block"), Step("fail", fail_then)),), Given)])
    async with working(bus, registry):
        execution_id = await bus.submit("p", GIVEN)
        begun = await watch(bus, execution_id, until="log")
        started.set()
        entries = await watch(bus, execution_id)
    assert entries[-1].data["message"] == "away"
    await until(lambda: not any(is_alive(int(pid)) for pid in begun[-1].data["text"].split()))


def test_what_stands_inside_a_function_can_be_no_process() -> None:
    def local() -> None:
        pass

    for function in (local, lambda: None):
        with pytest.raises(ValueError, match="run: another process finds only what stands at the top of a module"):
            process(function)


async def test_attack_72_a_process_that_dies_before_what_it_started_is_lost_and_that_is_killed(bus: Bus) -> None:
    entries = await run(bus, process(programs.die_before_ones_child))
    child, last_words = [data["text"] for data in data_of(entries, "log")]
    assert last_words == "last words"
    assert entries[-1].data["reason"] == "process_lost"
    assert "exited with code 7 before it gave an output" in entries[-1].data["message"]
    await until(lambda: not is_alive(int(child)))


async def test_attack_72_an_output_counts_though_what_the_process_started_lives_on(bus: Bus) -> None:
    entries = await run(bus, process(programs.give_all_before_ones_child))
    assert entries[-1].data["result"] == "given"
    child = int(data_of(entries, "log")[0]["text"])
    await until(lambda: not is_alive(child))


async def test_attack_72_a_message_over_the_limit_is_refused_with_its_size(bus: Bus) -> None:
    entries = await run(bus, process(programs.say_too_much))
    assert "emit: is a message of 5000" in entries[-1].data["result"]
    assert "the limit is 4194304" in entries[-1].data["result"]


async def test_attack_72_a_message_over_the_limit_that_was_sent_all_the_same_is_told_with_its_size(bus: Bus) -> None:
    entries = await run(bus, process(programs.send_too_much))
    assert entries[-1].data["reason"] == "process_lost"
    assert "sent a message of 2147483648 bytes, the limit is 4194304, before" in entries[-1].data["message"]


async def test_attack_73_control_characters_of_a_process_are_told_in_parts(bus: Bus) -> None:
    entries = await run(bus, process(programs.print_control_characters))
    parts = data_of(entries, "log")
    assert "".join(part["text"] for part in parts) == "\0" * 70_000
    assert [part.get("truncated", False) for part in parts] == [True] * (len(parts) - 1) + [False]
    assert entries[-1].data["result"] == "printed"


async def test_attack_76_a_cancelled_error_of_a_process_is_its_failure_and_is_tried_again(bus: Bus) -> None:
    entries = await run(bus, process(programs.cancel_something_of_its_own, retries=1, retry_delay_seconds=0.01))
    assert types_of(entries)[-3:] == ["step.retrying", "step.failed", "execution.failed"]
    assert entries[-1].data["reason"] == "step_cancelled"
