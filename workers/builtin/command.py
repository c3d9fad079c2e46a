"""Runs any program without a shell: each line a ``log`` event as it comes, the exit code in the ending."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from tailrace.bus.bus import Bus
from tailrace.workers.command.errors import shown
from tailrace.workers.command.lines import OutputLine, Stream, fraction_of, line_limit
from tailrace.workers.command.process import Exit, start
from tailrace.workers.command.screen import Screen
from tailrace.workers.definition.context import Context
from tailrace.workers.definition.pipeline import Pipeline, Step
from tailrace.workers.errors import WorkerError
from tailrace.workers.running.runner import run_pipeline

STEP: Final = "command"
SECONDS_BETWEEN_PROGRESS: Final = 0.2


class CommandInput(BaseModel):
    """``argv`` is the program and its arguments. ``env`` is added to the worker's own environment.

    ``inherit`` names what of that environment the program sees; without it, all. With ``pty`` the program writes to a
    terminal, as many do not show their progress otherwise.
    """

    model_config = ConfigDict(extra="forbid")

    argv: list[str] = Field(min_length=1)
    cwd: str | None = None
    env: dict[str, str] | None = None
    inherit: list[str] | None = None
    pty: bool = False


class CommandFailedError(WorkerError):
    """The program ran and did not end with 0. ``details`` go into ``execution.failed`` as they are."""

    def __init__(self, program: str, end: Exit) -> None:
        self.details: dict[str, Any]
        if end.signal is not None:
            self.code = "signal"
            self.details = {"exit_code": None, "signal": _signal_name(end.signal)}
            how = f"was ended by {self.details['signal']}"
        elif end.code is not None:
            self.code = "exit_code"
            self.details = {"exit_code": end.code}
            how = f"exited with code {end.code}"
        else:
            self.code = "exit_unknown"
            self.details = {"exit_code": None}
            how = "ended, but the system did not say how, because SIGCHLD is ignored here"
        super().__init__(f"The program {shown(program)} {how} after {end.duration_seconds:.1f} s.")
        self.details["duration_seconds"] = round(end.duration_seconds, 6)


async def run_program(ctx: Context) -> dict[str, Any]:
    return await _run(ctx)


# Once only: it is unknown what a program had done when its worker was lost.
COMMAND: Final = Pipeline("command", (Step(STEP, run_program),), CommandInput, max_attempts=1)


async def run_command(
    bus: Bus,
    execution_id: str | None,
    argv: Sequence[str],
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    inherit: Sequence[str] | None = None,
    pty: bool = False,
    screen: Screen | None = None,
) -> dict[str, Any]:
    """Run a program here, as an execution of its own, without a queue or a worker.

    ``env`` is added to our own environment, of which ``inherit`` names what the program sees (all without it). ``pty``
    gives it a terminal to write to; ``screen`` is shown what the program writes, beside the log.

    Returns ``{"exit_code": 0, "duration_seconds": …}``. Raises CommandFailedError (with ``details``) when the program
    fails, a ``CommandError`` when it cannot be started; the execution has its ending then. Raises LeaseHeldError or
    ExecutionClosedError when it is somebody else's or has ended, and another BusError when events could not be
    appended. Cancelling it ends the program's process group and the execution.
    """
    given = CommandInput.model_construct(
        argv=list(argv),
        cwd=cwd,
        env=None if env is None else dict(env),
        inherit=None if inherit is None else list(inherit),
        pty=pty,
    )

    async def run(ctx: Context) -> dict[str, Any]:
        return await _run(ctx, screen)

    async with bus.execution(execution_id, pipeline=COMMAND.name) as execution:
        pipeline = Pipeline(COMMAND.name, (Step(STEP, run),), CommandInput)
        result: dict[str, Any] = await run_pipeline(bus, execution, pipeline, given)
        execution.result = result
    return result


async def _run(ctx: Context, screen: Screen | None = None) -> dict[str, Any]:
    given: CommandInput = ctx.input
    inherited = dict(os.environ)
    if given.inherit is not None:
        if missing := [name for name in given.inherit if name not in inherited]:
            await ctx.log(f"not in the environment of the worker: {', '.join(missing)}"[:1000], level="warning")
        inherited = {name: inherited[name] for name in given.inherit if name in inherited}
    env = {**inherited, **(given.env or {})}
    limit = line_limit(ctx.backing.max_event_bytes)
    bars = _Bars(ctx)
    async with await start(
        given.argv, cwd=given.cwd, env=env, max_line_bytes=limit, screen=screen, pty=given.pty
    ) as process:
        async for line in process.lines():
            await bars.see(line)
            if not line.overwritten:
                await ctx.emit("log", line.event_data)
        end = await process.wait()
    if end.code != 0:
        raise CommandFailedError(given.argv[0], end)
    return {"exit_code": 0, "duration_seconds": round(end.duration_seconds, 6)}


class _Bars:
    """Progress bars as progress of the step: a bar is a line that is written over and shows a percentage."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._showing: set[Stream] = set()
        self._told: float | None = None
        self._told_at = float("-inf")

    async def see(self, line: OutputLine) -> None:
        if line.overwritten:
            self._showing.add(line.stream)
        elif line.stream not in self._showing:
            return
        fraction = fraction_of(line.text)
        now = time.monotonic()
        # How a bar ends is always told.
        is_due = not line.overwritten or now - self._told_at >= SECONDS_BETWEEN_PROGRESS
        if fraction is not None and fraction != self._told and is_due:
            self._told, self._told_at = fraction, now
            await self._ctx.progress(fraction)
        if not line.overwritten:
            self._showing.discard(line.stream)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
