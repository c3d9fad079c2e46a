"""Real programs: their lines, their exits, and their ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

from tailrace.workers.command.errors import CommandNotEndedError
from tailrace.workers.command.lines import OutputLine
from tailrace.workers.command.process import DRAIN_SECONDS, Exit, Process, start
from tests.integration.workers_command.programs import (
    first_line,
    is_known,
    is_running,
    open_descriptors,
    python,
    until,
    until_gone,
)
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

# Starts a program that is deaf to SIGTERM and holds our stdout, tells its pid, then goes on as argv says.
WITH_A_DEAF_CHILD = """
import subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
child = subprocess.Popen([sys.executable, '-c', deaf], stdout=subprocess.PIPE if 'quiet' in sys.argv else None)
if 'quiet' in sys.argv:
    child.stdout.readline()
print(child.pid, flush=True)
if 'stay' in sys.argv:
    time.sleep(60)
"""


async def run(argv: list[str]) -> tuple[list[OutputLine], Exit]:
    async with await start(argv) as process:
        lines = [line async for line in process.lines()]
        return lines, await process.wait()


async def test_lines_of_both_streams_come_with_the_exit_code() -> None:
    lines, ended = await run(["sh", "-c", "echo one; echo two >&2; printf three; exit 7"])
    assert sorted(lines, key=lambda line: line.stream) == [
        OutputLine("stderr", "two"),
        OutputLine("stdout", "one"),
        OutputLine("stdout", "three"),
    ]
    assert (ended.code, ended.signal) == (7, None)
    assert 0 < ended.duration_seconds < 30


async def test_no_shell_sees_the_arguments(tmp_path: Path) -> None:
    lines, _ = await run(["printf", "%s\n", f"$(touch {tmp_path}/x); *"])
    assert [line.text for line in lines] == [f"$(touch {tmp_path}/x); *"]
    assert not (tmp_path / "x").exists()


async def test_lines_come_while_the_program_runs(tmp_path: Path) -> None:
    waits = "import sys, pathlib, time\nprint('ready')\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"
    async with await start(python(waits, str(tmp_path / "go"))) as process:
        # Without a flush in it: PYTHONUNBUFFERED is set for it.
        assert await first_line(process) == "ready"
        (tmp_path / "go").touch()
        assert (await process.wait()).code == 0


async def test_streams_written_in_turn_are_merged_in_turn() -> None:
    source = "import sys, time\nfor n in range(6): print(n, file=(sys.stdout, sys.stderr)[n % 2]); time.sleep(0.05)"
    lines, _ = await run(python(source))
    assert [(line.text, line.stream) for line in lines] == [(str(n), ("stdout", "stderr")[n % 2]) for n in range(6)]


async def test_a_megabyte_without_a_line_end_comes_in_marked_parts() -> None:
    lines, _ = await run(python("import sys; sys.stdout.write('é' * 500_000)"))
    assert "".join(line.text for line in lines) == "é" * 500_000
    assert [line.truncated for line in lines] == [True] * (len(lines) - 1) + [False]
    assert max(len(line.text.encode()) for line in lines) <= 65_536


async def test_bytes_that_are_no_text_are_replaced() -> None:
    lines, _ = await run(["printf", r"a\377b\000c\n"])
    assert lines == [OutputLine("stdout", "a\ufffdb\x00c")]


async def test_a_hundred_thousand_lines_arrive_in_order() -> None:
    lines, ended = await run(python("for n in range(100_000): print(n)", "-u"))
    assert [line.text for line in lines] == [str(n) for n in range(100_000)]
    assert ended.code == 0


async def test_a_consumer_that_does_not_read_halts_the_program_and_keeps_memory_bounded(tmp_path: Path) -> None:
    counts = """
import os, pathlib, sys
for n in range(1, 2001):
    os.write(1, b'x' * 9_999 + b'\\n')
    pathlib.Path(sys.argv[1]).write_text(str(n))
"""
    progress = tmp_path / "progress"
    async with await start(python(counts, str(progress)), max_buffered_bytes=100_000) as process:
        await until(progress.exists)
        before = ""
        while before != (now := progress.read_text()) or not now:
            before = now
            await anyio.sleep(0.3)
        # What waits here, one more read of each kind, and a full pipe.
        assert int(before) * 10_000 <= 100_000 + 2 * 65_536 + 65_536
        assert process._output._buffered_bytes <= 100_000 + 65_536
        lengths = [len(line.text) async for line in process.lines()]
        assert lengths == [9_999] * 2000


async def test_what_the_program_wrote_before_its_exit_is_not_lost_to_a_slow_consumer() -> None:
    # The child that stays keeps the pipes open: their end is found by the clock, not by an end of file.
    source = "import subprocess; print('x' * 60_000); subprocess.Popen(['sleep', '60']); print('last')"
    async with await start(python(source), max_buffered_bytes=1, max_line_bytes=1000) as process:
        await process.wait()
        await anyio.sleep(DRAIN_SECONDS + 0.3)  # longer than the drain waits
        lines = [line async for line in process.lines()]
    assert "".join(line.text for line in lines) == "x" * 60_000 + "last"


async def test_a_child_left_behind_that_holds_the_pipe_does_not_hold_up_the_lines() -> None:
    async with await start(python(WITH_A_DEAF_CHILD), grace_seconds=0.1) as process:
        lines = [line.text async for line in process.lines()]
        ended = await process.wait()
        child = next(int(text) for text in lines if text.isdigit())
        assert is_running(child)
    assert ended.code == 0
    await until_gone(child)


async def test_a_child_left_behind_that_never_stops_writing_does_not_hold_up_the_lines() -> None:
    with anyio.fail_after(patient(20)):
        async with await start(["sh", "-c", "yes & exit 3"], grace_seconds=1) as process:
            seen = False
            async for line in process.lines():
                seen = seen or line.text == "y"
            assert seen
            assert (await process.wait()).code == 3


async def test_stop_ends_a_program_by_the_signal_that_it_asks_nicely_with() -> None:
    async with await start(["sleep", "60"]) as process:
        ended = await process.stop(10)
        assert (ended.code, ended.signal) == (None, signal.SIGTERM)


async def test_a_program_may_use_the_grace_to_say_goodbye() -> None:
    source = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(3)))
print('ready')
time.sleep(60)
"""
    async with await start(python(source)) as process:
        assert await first_line(process) == "ready"
        ended = await process.stop(10)
        assert [line.text async for line in process.lines()] == ["bye"]
        assert ended.code == 3


async def test_stop_kills_the_group_when_the_grace_is_over() -> None:
    async with await start(python(WITH_A_DEAF_CHILD, "quiet", "stay")) as process:
        child = int(await first_line(process))
        before = time.monotonic()
        ended = await process.stop(0.3)
        assert 0.3 <= time.monotonic() - before < patient(5)
        # The leader heard SIGTERM; its child is deaf to it.
        assert ended.signal == signal.SIGTERM
        await until_gone(child)


async def test_the_grace_is_one_for_the_program_and_for_what_it_started() -> None:
    # The leader takes most of the grace for itself; its deaf child must not get another.
    lingers = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.7), sys.exit()))\n"
    async with await start(python(lingers + WITH_A_DEAF_CHILD, "quiet", "stay")) as process:
        await first_line(process)
        before = time.monotonic()
        await process.stop(1)
        assert time.monotonic() - before < stretched(1.6)


async def test_stop_reaches_a_halted_program() -> None:
    async with await start(["sh", "-c", "echo ready; kill -STOP $$; sleep 60"]) as process:
        assert await first_line(process) == "ready"
        ended = await process.stop(10)
        assert ended.signal == signal.SIGTERM


async def test_stop_may_be_called_twice_and_after_the_end() -> None:
    async with await start(["true"]) as process:
        first = await process.wait()
        assert first == await process.stop(1) == await process.stop(1)


async def test_stop_ends_the_lines_of_another_task() -> None:
    ready = asyncio.Event()

    async def read(process: Process) -> list[str]:
        lines = []
        async for line in process.lines():
            lines.append(line.text)
            ready.set()
        return lines

    async with await start(["sh", "-c", "echo ready; sleep 60"]) as process:
        reading = asyncio.create_task(read(process))
        await ready.wait()
        await process.stop(10)
        assert await reading == ["ready"]


async def test_leaving_the_block_by_an_exception_ends_the_program() -> None:
    with pytest.raises(KeyError):
        async with await start(["sleep", "60"]) as process:
            raise KeyError
    assert not is_known(process.pid)


async def test_cancelling_the_consumer_ends_the_group() -> None:
    children: list[int] = []

    async def consume() -> None:
        async with await start(python(WITH_A_DEAF_CHILD, "quiet", "stay"), grace_seconds=0.2) as process:
            async for line in process.lines():
                children.extend([process.pid, int(line.text)])

    task = asyncio.create_task(consume())
    await until(lambda: len(children) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    leader, child = children
    assert not is_known(leader)
    await until_gone(child)


async def test_cancelling_a_stop_kills_at_once_and_leaves_no_zombie() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    process = await start(python(deaf))
    assert await first_line(process) == "deaf"
    stopping = asyncio.create_task(process.stop(60))
    await anyio.sleep(0.1)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await until(lambda: not is_known(process.pid))
    assert (await process.wait()).signal == signal.SIGKILL
    process._output.close()


async def test_a_crash_is_told_by_its_signal() -> None:
    _, ended = await run(["sh", "-c", "kill -SEGV $$"])
    assert (ended.code, ended.signal) == (None, signal.SIGSEGV)


async def test_nothing_waits_on_standard_input() -> None:
    lines, ended = await run(["cat"])
    assert (lines, ended.code) == ([], 0)


async def test_the_environment_and_the_directory_are_those_given(tmp_path: Path) -> None:
    source = "import os; print(os.getcwd(), os.environ['A'], 'HOME' in os.environ, os.environ['PYTHONUNBUFFERED'])"
    async with await start(
        python(source), cwd=str(tmp_path), env={"A": "b", "PYTHONUNBUFFERED": "yes", "PATH": os.environ["PATH"]}
    ) as process:
        assert await first_line(process) == f"{tmp_path} b False yes"


async def test_many_programs_leave_no_thread_descriptor_or_zombie_behind() -> None:
    await run(["true"])  # what is opened once, is open now
    descriptors = open_descriptors()
    for _ in range(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(run, ["sh", "-c", "echo x; echo y >&2"])
    gc.collect()  # a ResourceWarning would be an error here
    assert open_descriptors() == descriptors
    await until(lambda: not any(thread.name.startswith("command-") for thread in threading.enumerate()))
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    assert not [child for child in children if not is_running(int(child))]


async def test_a_program_that_survives_its_killing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(group: int, number: int) -> None:
        raise PermissionError(group, number)

    async with await start(["sleep", "60"]) as process:
        with monkeypatch.context() as patch:
            # As for a program that has become another user's.
            patch.setattr(os, "killpg", refuse)
            patch.setattr("tailrace.workers.command.process._KILL_SECONDS", 0.1)
            with pytest.raises(CommandNotEndedError, match=f"process {process.pid}.*end it by hand") as caught:
                await process.stop(0.1)
            assert caught.value.code == "command_not_ended"
    assert not is_known(process.pid)


async def test_a_process_whose_loop_has_gone_is_reaped_all_the_same() -> None:
    def in_a_loop_of_its_own() -> int:
        async def leave() -> int:
            process = await start([sys.executable, "-c", "import time; time.sleep(0.5)"])
            process._output.close()
            return process.pid

        return asyncio.run(leave())

    pid = await anyio.to_thread.run_sync(in_a_loop_of_its_own)
    assert is_known(pid)
    await until(lambda: not is_known(pid))
