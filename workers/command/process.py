"""A program run without a shell: its lines as they come, its exit, and the end of all that it started.

async with await start(["make", "-j2"], cwd="src") as process:
async for line in process.lines():
print(line.stream, line.text)
end = await process.wait()
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from types import TracebackType
from typing import IO, Self

from tailrace.workers.command.errors import CommandNotEndedError, CommandNotStartedError
from tailrace.workers.command.group import ProcessGroup
from tailrace.workers.command.launch import launch
from tailrace.workers.command.lines import MAX_LINE_BYTES, OutputLine, Splitter, Stream
from tailrace.workers.command.output import Output
from tailrace.workers.command.screen import Screen
from tailrace.workers.command.terminal import Size, Terminal

GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL, unless the caller says otherwise."""

DRAIN_SECONDS = 0.5
"""How long the output may stay open after the program's end, in the hands of what the program left behind."""

_KILL_SECONDS = 5.0
# What a terminal has that nobody has made larger.
_SIZE = Size(24, 80)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended: by itself with a `code`, or by a `signal`. One of the two is None.

    Both are None if the system kept the answer to itself (SIGCHLD was ignored by the process that started the worker).
    """

    code: int | None
    signal: int | None
    duration_seconds: float


async def start(
    argv: Sequence[str],
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
    max_buffered_bytes: int = 262_144,
    grace_seconds: float = GRACE_SECONDS,
    pass_fds: Sequence[int] = (),
    screen: Screen | None = None,
    pty: bool = False,
) -> Process:
    """Run `argv` in a process group (and session) of its own, with nothing on its standard input.

    `env` is its whole environment; None gives it the worker's own. PYTHONUNBUFFERED=1 is added unless it is set:
    Python buffers what goes into a pipe, and its lines would come late. `max_line_bytes` is the longest `Line`
    as JSON, `max_buffered_bytes` about what is held of lines that were not taken yet, `grace_seconds` what leaving
    the `async with` block leaves the group to end by itself, `pass_fds` what it inherits beside its output.

    `screen` is shown all output before its lines are given out. Where it is a terminal the program has one, too; where
    its reader goes away the program's own stream is closed, so that SIGPIPE ends it as it would without us. With
    `pty` the program has a terminal of 24 lines and 80 columns for each stream in any case.

    Raises a `CommandError` if the program cannot be started, or there is no terminal to be had for `pty`.
    """
    # asyncio's own subprocesses are of no use here. They reap the program at its exit, and its number, which still
    # names the group to be signalled, may then go to a stranger. And before Python 3.12.4 their wait() hangs for as
    # long as anybody holds the pipes.
    splitters: dict[Stream, Splitter] = {
        "stdout": Splitter("stdout", max_line_bytes),
        "stderr": Splitter("stderr", max_line_bytes),
    }
    terminals = {} if screen is None else _terminals(screen)
    try:
        if pty:
            terminals = _own_terminals(argv[0], terminals)
        slaves: dict[Stream, int] = {stream: terminal.slave for stream, terminal in terminals.items()}
        popen = launch(
            argv,
            cwd=cwd,
            env=env,
            pass_fds=pass_fds,
            stdout=slaves.get("stdout", subprocess.PIPE),
            stderr=slaves.get("stderr", subprocess.PIPE),
        )
    except BaseException:
        for terminal in terminals.values():
            terminal.output.close()
        raise
    finally:
        for terminal in terminals.values():
            terminal.close_slave()
    output = Output(_pipes(popen, terminals), max_buffered_bytes)
    try:
        return Process(popen, output, splitters, grace_seconds=grace_seconds, screen=screen, terminals=terminals)
    except RuntimeError as error:  # no thread to be had
        os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        output.close()
        raise CommandNotStartedError(argv[0], str(error)) from error


class Process:
    """A running program. Use it in an `async with` block: leaving it, however, ends what is left of the group.

    A process that moved to a session of its own (a daemon) is out of reach, as it is for a shell.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        output: Output,
        splitters: Mapping[Stream, Splitter],
        *,
        grace_seconds: float,
        screen: Screen | None,
        terminals: Mapping[Stream, Terminal],
    ) -> None:
        self._screen = screen
        self._terminals = terminals
        self._popen = popen
        self._output = output
        self._splitters = splitters
        self._grace_seconds = grace_seconds
        self._started_at = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[Exit] = self._loop.create_future()
        self._split: Iterator[OutputLine] = iter(())
        self._group = ProcessGroup(popen.pid)
        self._is_released = False
        if screen is not None:
            screen.on_resize(self._resize)
        # A daemon: a program that was not ended must not keep the worker from exiting.
        threading.Thread(target=self._watch, name=f"command-{popen.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.stop(self._grace_seconds)
        finally:
            self._output.close()

    async def lines(self) -> AsyncIterator[OutputLine]:
        """The lines of both streams as they come; a stream's own lines are in order. For one consumer.

        While they are not taken, the program halts when its pipes are full. Ends when both streams have ended, or
        `DRAIN_SECONDS` after the program's exit: what it wrote is all given out, what others that hold its streams
        (programs it left in the background) write later is not.
        """
        while (line := await self._next()) is not None:
            yield line

    async def wait(self) -> Exit:
        """How the program ended, once it has. Take its `lines()` first, or it may halt before."""
        return await asyncio.shield(self._exit)

    def on_end(self, call: Callable[[], None]) -> None:
        """Have it called once the program itself has ended, whatever it started may still run."""
        self._exit.add_done_callback(lambda _exit: call())

    async def stop(self, grace_seconds: float) -> Exit:
        """End the whole group: SIGTERM, and SIGKILL for what is left of it after `grace_seconds`.

        Returns when nothing is left. If it is cancelled, SIGKILL comes at once. Raises `CommandNotEndedError` if
        the program is there even after that.
        """
        self._group.signal(signal.SIGTERM)
        self._group.signal(signal.SIGCONT)  # a program that is halted would not see the other
        try:
            await self._until_gone(grace_seconds)
        finally:
            self._group.signal(signal.SIGKILL)
            self._release()
        await self._until_gone(_KILL_SECONDS)
        if not self._exit.done():
            raise CommandNotEndedError(str(self._popen.args), self.pid)
        return self._exit.result()

    def _resize(self, sizes: Mapping[Stream, Size]) -> None:
        for stream in sizes.keys() & self._terminals.keys():
            self._terminals[stream].resize(sizes[stream])
        self._group.signal(signal.SIGWINCH)

    async def _next(self) -> OutputLine | None:
        while True:
            if (line := next(self._split, None)) is not None:
                return line
            if (taken := await self._output.take()) is None:
                return next(chain.from_iterable(each.close() for each in self._splitters.values()), None)
            stream, chunk = taken
            if self._screen is not None and not await self._screen.write(stream, chunk):
                self._output.hang_up(stream)
            self._split = self._splitters[stream].feed(chunk)

    async def _until_gone(self, seconds: float) -> None:
        """Until the program and the rest of its group have ended, or the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wait()
                self._release()
                for pause_seconds in _poll_seconds():
                    if not self._group.is_alive():
                        break
                    await asyncio.sleep(pause_seconds)

    def _watch(self) -> None:
        code, number = _await_end(self._popen)
        end = Exit(code, number, time.monotonic() - self._started_at)
        try:
            self._loop.call_soon_threadsafe(self._on_end, end)
        except RuntimeError:  # the loop has been closed: it must be done here
            self._popen.wait()

    def _on_end(self, end: Exit) -> None:
        self._exit.set_result(end)
        self._loop.call_later(DRAIN_SECONDS, self._output.finish)
        if self._is_released:
            self._popen.wait()

    def _release(self) -> None:
        """Let the system forget the program (reap it), now or when it ends."""
        self._is_released = True
        if self._exit.done():
            self._popen.wait()


def _terminals(screen: Screen) -> dict[Stream, Terminal]:
    terminals: dict[Stream, Terminal] = {}
    with suppress(OSError):  # no terminal to be had: pipes will do
        for stream, size in screen.terminals().items():
            terminals[stream] = Terminal(size)
    return terminals


def _own_terminals(program: str, terminals: dict[Stream, Terminal]) -> dict[Stream, Terminal]:
    """Raises CommandNotStartedError."""
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    try:
        for stream in streams:
            if stream not in terminals:
                terminals[stream] = Terminal(_SIZE)
    except OSError as error:
        raise CommandNotStartedError(program, f"there is no terminal to be had: {error.strerror}") from error
    return terminals


def _pipes(popen: subprocess.Popen[bytes], terminals: Mapping[Stream, Terminal]) -> dict[IO[bytes], Stream]:
    streams: tuple[tuple[IO[bytes] | None, Stream], ...] = ((popen.stdout, "stdout"), (popen.stderr, "stderr"))
    pipes = {pipe: stream for pipe, stream in streams if pipe is not None}
    return pipes | {terminal.output: stream for stream, terminal in terminals.items()}


def _await_end(popen: subprocess.Popen[bytes]) -> tuple[int | None, int | None]:
    """(code, signal) when the program has ended; without reaping it, where the system can do that."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        code = popen.wait()
        return (code, None) if code >= 0 else (None, -code)
    try:
        end = os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return None, None
    if end is None or end.si_code == os.CLD_EXITED:
        return (end.si_status if end is not None else None), None
    return None, end.si_status


def _poll_seconds() -> Iterator[float]:
    """Pauses between two looks at a group, whose end is no event: short ones first, for each look costs."""
    return chain((0.005, 0.01, 0.02, 0.05, 0.1), repeat(0.2))
