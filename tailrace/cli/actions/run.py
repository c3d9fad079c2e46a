"""Run a program as an execution and show its lines, as they stand in the log."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Final

from tailrace.bus import Bus, Entry, open_bus
from tailrace.bus.model.event import check_execution_id
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode
from tailrace.workers import run_command
from tailrace.workers.builtin.command import CommandFailedError
from tailrace.workers.command.errors import CommandError as ProgramError
from tailrace.workers.command.errors import CommandNotExecutableError, CommandNotFoundError

# After the ending is in the log, the last lines are a round trip away.
LAST_LINES_SECONDS: Final = 5.0


async def run_and_echo(argv: Sequence[str], redis_url: str | None, execution_id: str | None) -> int:
    """Return the program's own exit code. Raises BusError, CliError when it could not be run."""
    if execution_id is not None:
        check_execution_id(execution_id, field="--id")
    async with await open_bus(redis_url) as bus:
        chosen = execution_id or bus.new_execution_id()
        print(f"tailrace: execution {chosen}", file=sys.stderr, flush=True)
        started_after = await bus.log.latest(chosen)
        echo = asyncio.create_task(_echo(bus, chosen, str(started_after)))
        try:
            await run_command(bus, chosen, argv)
        except CommandFailedError as error:
            await _last_lines(echo)
            return _exit_code(error)
        except ProgramError as error:
            raise CliError(str(error), _code_of(error)) from None
        else:
            await _last_lines(echo)
            return ExitCode.OK
        finally:
            echo.cancel()
            await asyncio.wait([echo])


async def _echo(bus: Bus, execution_id: str, after: str) -> None:
    async with aclosing(bus.follow(execution_id, after)) as items:
        async for item in items:
            if isinstance(item, Entry) and item.type == "log":
                data = item.data
                stream = sys.stderr if data.get("stream") == "stderr" else sys.stdout
                print(data.get("text", ""), file=stream, flush=True)


async def _last_lines(echo: asyncio.Task[None]) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(echo), LAST_LINES_SECONDS)


def _exit_code(error: CommandFailedError) -> int:
    code, name = error.details.get("exit_code"), error.details.get("signal")
    if isinstance(code, int):
        return code
    if isinstance(name, str) and name in signal.Signals.__members__:
        return 128 + signal.Signals[name]
    return ExitCode.RUN_FAILED


def _code_of(error: ProgramError) -> ExitCode:
    match error:
        case CommandNotFoundError():
            return ExitCode.NOT_FOUND
        case CommandNotExecutableError():
            return ExitCode.NOT_EXECUTABLE
        case _:
            return ExitCode.USAGE
