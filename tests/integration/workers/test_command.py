from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tailrace.bus import Bus, BusSettings, ExecutionClosedError, open_bus
from tailrace.bus.errors import LeaseLostError
from tailrace.workers import CommandFailedError, built_in, run_command
from tailrace.workers.command.errors import CommandNotFoundError
from tests.integration.workers.watching import run, types_of, until, watch, working

pytestmark = pytest.mark.anyio


def shell(script: str) -> dict[str, object]:
    return {"argv": ["sh", "-c", script]}


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_each_line_is_an_event_and_the_ending_has_the_exit_code(bus: Bus) -> None:
    async with working(bus):
        entries = await run(bus, "command", shell("echo one; echo two; echo three"))
    logged = [entry.data for entry in entries if entry.type == "log"]
    assert logged == [{"text": text, "stream": "stdout"} for text in ("one", "two", "three")]
    assert entries[-1].type == "execution.completed"
    assert entries[-1].data["result"]["exit_code"] == 0
    assert entries[-1].data["result"]["duration_seconds"] > 0


async def test_the_two_streams_are_told_apart_and_each_is_in_order(bus: Bus) -> None:
    async with working(bus):
        entries = await run(bus, "command", shell("for n in 1 2 3 4 5; do echo o$n; echo e$n >&2; done"))
    logged = [(entry.data["stream"], entry.data["text"]) for entry in entries if entry.type == "log"]
    assert [text for stream, text in logged if stream == "stdout"] == ["o1", "o2", "o3", "o4", "o5"]
    assert [text for stream, text in logged if stream == "stderr"] == ["e1", "e2", "e3", "e4", "e5"]


async def test_a_line_is_seen_while_the_program_still_runs(bus: Bus, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    async with working(bus):
        execution_id = await bus.submit(
            "command", shell(f"echo first; until [ -e {go_on} ]; do sleep 0.01; done; echo last")
        )
        seen = await watch(bus, execution_id, until="log")
        go_on.touch()
        entries = await watch(bus, execution_id)
    assert seen[-1].data["text"] == "first"
    assert [entry.data["text"] for entry in entries if entry.type == "log"] == ["first", "last"]


async def test_many_lines_are_all_there_in_order(bus: Bus) -> None:
    async with working(bus):
        entries = await run(bus, "command", {"argv": ["seq", "20000"]})
    logged = [int(entry.data["text"]) for entry in entries if entry.type == "log"]
    assert logged == list(range(1, 20001))


async def test_attack_73_output_of_nothing_but_control_characters_is_all_there(bus: Bus) -> None:
    async with working(bus):
        entries = await run(bus, "command", {"argv": ["head", "-c", "100000", "/dev/zero"]})
    assert entries[-1].type == "execution.completed"
    assert "".join(entry.data["text"] for entry in entries if entry.type == "log") == "\0" * 100_000


async def test_attack_73_lines_fit_into_events_that_the_operator_made_small(server_url: str, prefix: str) -> None:
    settings = BusSettings(prefix=prefix, max_event_bytes=256)
    async with await open_bus(server_url, settings=settings) as bus, working(bus):
        entries = await run(bus, "command", {"argv": ["printf", '%0500d\\"\\"\\001\\377', "7"]})
    assert entries[-1].type == "execution.completed"
    told = "".join(entry.data["text"] for entry in entries if entry.type == "log")
    assert told == "0" * 499 + '7""\x01\ufffd'


async def test_a_program_that_fails_ends_in_its_exit_code(bus: Bus) -> None:
    async with working(bus):
        entries = await run(bus, "command", shell("echo oh; exit 3"))
    assert types_of(entries)[-3:] == ["log", "step.failed", "execution.failed"]
    failed = entries[-1].data
    assert (failed["reason"], failed["exit_code"]) == ("exit_code", 3)
    assert "'sh' exited with code 3" in failed["message"]


async def test_a_program_that_is_killed_ends_in_the_signals_name(bus: Bus) -> None:
    async with working(bus):
        entries = await run(bus, "command", shell("kill -KILL $$"))
    failed = entries[-1].data
    assert (failed["reason"], failed["signal"], failed["exit_code"]) == ("signal", "SIGKILL", None)
    assert "was ended by SIGKILL" in failed["message"]


async def test_a_program_that_does_not_exist_ends_in_a_sentence(bus: Bus) -> None:
    async with working(bus):
        entries = await run(bus, "command", {"argv": ["no-such-program-anywhere"]})
    assert entries[-1].type == "execution.failed"
    assert entries[-1].data["reason"] == "command_not_found"
    assert "'no-such-program-anywhere' was not found on the worker's PATH" in entries[-1].data["message"]


async def test_nothing_is_given_to_a_shell(bus: Bus, tmp_path: Path) -> None:
    async with working(bus):
        entries = await run(bus, "command", {"argv": ["echo", f"$HOME; touch {tmp_path}/made"]})
    assert [entry.data["text"] for entry in entries if entry.type == "log"] == [f"$HOME; touch {tmp_path}/made"]
    assert not (tmp_path / "made").exists()


async def test_a_program_sees_only_what_it_may_inherit(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILL_KEY", "secret")
    given = {**shell("echo ${MILL_KEY:-none} $MILL $PATH"), "env": {"MILL": "wheel"}, "inherit": ["PATH", "NOWHERE"]}
    async with working(bus):
        entries = await run(bus, "command", given)
    missing, text = [entry.data for entry in entries if entry.type == "log"]
    assert missing == {"text": "not in the environment of the worker: NOWHERE", "level": "warning"}
    assert text["text"] == f"none wheel {os.environ['PATH']}"


BAR = """
import sys, time
print("begun", sys.stdout.isatty(), sys.stderr.isatty(), flush=True)
for done in range(0, 101, 5):
    print(f"\\rWorking: {done:3}%", end="", file=sys.stderr, flush=True)
    time.sleep(0.02)
print(file=sys.stderr, flush=True)
print("CPU 70%")
"""


@pytest.mark.parametrize("pty", [False, True])
async def test_a_progress_bar_is_progress_of_the_step_and_one_line(bus: Bus, pty: bool) -> None:
    async with working(bus):
        entries = await run(bus, "command", {"argv": [sys.executable, "-c", BAR], "pty": pty})
    assert entries[-1].type == "execution.completed", entries[-1]
    texts = [entry.data["text"] for entry in entries if entry.type == "log"]
    assert sorted(texts) == ["CPU 70%", "Working: 100%", f"begun {pty} {pty}"]
    progress = [entry.data["progress"] for entry in entries if entry.type == "step.progress"]
    # At most five a second, and the last in any case.
    assert progress == sorted(set(progress))
    assert (progress[-1], 1 < len(progress) < 15) == (1.0, True)


async def test_noise_is_safe_and_whole(bus: Bus) -> None:
    given = shell("head -c 3000000 /dev/urandom; head -c 100000 /dev/zero; printf '\\r\\r 7 %%\\r'")
    async with working(bus):
        entries = await run(bus, "command", given)
    assert entries[-1].type == "execution.completed", entries[-1]
    characters = sum(len(entry.data["text"]) for entry in entries if entry.type == "log")
    # Bytes that are no characters become one each, or some together.
    assert characters > 1_000_000
    assert entries[-1].data["result"]["exit_code"] == 0


async def test_directory_and_environment_are_those_that_were_given(bus: Bus, tmp_path: Path) -> None:
    given = {**shell("pwd; echo $MILL; command -v sh"), "cwd": str(tmp_path), "env": {"MILL": "wheel"}}
    async with working(bus):
        entries = await run(bus, "command", given)
    directory, variable, program = [entry.data["text"] for entry in entries if entry.type == "log"]
    assert (directory, variable) == (str(tmp_path), "wheel")
    assert program.endswith("sh")


@pytest.mark.parametrize("given", [{}, {"argv": []}, {"argv": "ls -l"}, {"argv": [1]}])
async def test_input_that_names_no_program_ends_in_a_sentence_that_names_the_field(
    bus: Bus, given: dict[str, object]
) -> None:
    async with working(bus):
        entries = await run(bus, "command", given)
    assert entries[-1].data["reason"] == "invalid_input"
    assert "input.argv" in entries[-1].data["message"]


async def test_without_the_operators_leave_no_program_is_run(bus: Bus, tmp_path: Path) -> None:
    async with working(bus, built_in(allow_command=False)):
        entries = await run(bus, "command", {"argv": ["touch", str(tmp_path / "made")]})
    assert entries[-1].type == "execution.failed"
    assert entries[-1].data["reason"] == "pipeline_not_allowed"
    assert "--allow-command" in entries[-1].data["message"]
    assert not (tmp_path / "made").exists()


TREE = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


async def test_stopping_the_worker_ends_all_that_the_program_started(bus: Bus) -> None:
    async with working(bus, drain_seconds=0) as worker:
        execution_id = await bus.submit("command", {"argv": [sys.executable, "-c", TREE]})
        seen = await watch(bus, execution_id, until="log")
        pids = [int(pid) for pid in seen[-1].data["text"].split()]
        assert all(map(is_running, pids))
        worker.stop()
        entries = await watch(bus, execution_id)
        assert not any(map(is_running, pids))
    assert entries[-1].type == "execution.cancelled"
    assert entries[-1].data["reason"] == "worker_stopped"


async def test_a_program_can_be_run_without_queue_or_worker(bus: Bus) -> None:
    result = await run_command(bus, "mine-1", ["sh", "-c", "echo hi"])
    assert result["exit_code"] == 0
    entries = await watch(bus, "mine-1")
    assert types_of(entries) == [
        "execution.started",
        "step.started",
        "log",
        "step.completed",
        "execution.completed",
    ]
    with pytest.raises(ExecutionClosedError):
        await run_command(bus, "mine-1", ["echo", "again"])


async def test_a_program_run_without_a_worker_tells_its_caller_how_it_failed(bus: Bus) -> None:
    with pytest.raises(CommandFailedError) as raised:
        await run_command(bus, "mine-2", ["sh", "-c", "exit 7"])
    assert raised.value.details["exit_code"] == 7
    with pytest.raises(CommandNotFoundError):
        await run_command(bus, "mine-3", ["no-such-program-anywhere"])
    assert (await watch(bus, "mine-2"))[-1].data["exit_code"] == 7
    assert (await watch(bus, "mine-3"))[-1].data["reason"] == "command_not_found"


async def test_cancelling_a_program_run_without_a_worker_ends_it_and_says_so(bus: Bus) -> None:
    task = asyncio.create_task(run_command(bus, "mine-4", [sys.executable, "-c", TREE]))
    seen = await watch(bus, "mine-4", until="log")
    pids = [int(pid) for pid in seen[-1].data["text"].split()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(map(is_running, pids))
    assert (await watch(bus, "mine-4"))[-1].type == "execution.cancelled"


async def test_a_program_whose_execution_another_took_over_is_ended_and_writes_nothing_more(
    bus: Bus, settings: BusSettings
) -> None:
    task = asyncio.create_task(run_command(bus, "mine-5", [sys.executable, "-c", TREE]))
    seen = await watch(bus, "mine-5", until="log")
    pids = [int(pid) for pid in seen[-1].data["text"].split()]
    # What a take-over does: the fence rises and the owner is another.
    await bus.commands.command("HINCRBY", bus.keys.meta("mine-5"), "fence", 1)
    await bus.commands.command("HSET", bus.keys.meta("mine-5"), "owner", "another")
    with pytest.raises(LeaseLostError):
        await task
    assert not any(map(is_running, pids))
    state = await bus.state("mine-5")
    assert state is not None
    assert not state.ended


async def test_a_program_that_ignores_being_asked_is_ended_all_the_same(bus: Bus) -> None:
    script = "trap '' TERM; echo $$; while :; do sleep 1; done"
    async with working(bus, drain_seconds=0) as worker:
        execution_id = await bus.submit("command", shell(script))
        pid = int((await watch(bus, execution_id, until="log"))[-1].data["text"])
        worker.stop()
        await until(lambda: not is_running(pid))
        entries = await watch(bus, execution_id)
    assert entries[-1].type == "execution.cancelled"


async def test_a_worker_whose_program_kills_itself_goes_on_working(bus: Bus) -> None:
    async with working(bus):
        await run(bus, "command", shell(f"kill -{signal.SIGSEGV.value} $$"))
        entries = await run(bus, "command", shell("exit 0"))
    assert entries[-1].type == "execution.completed"
