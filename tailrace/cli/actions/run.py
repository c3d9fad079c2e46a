"""Run a program as an execution and show its output as it comes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from tailrace.bus import open_bus
from tailrace.bus.model.event import check_execution_id
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode
from tailrace.workers import Screen, run_command
from tailrace.workers.builtin.command import CommandFailedError
from tailrace.workers.command.errors import CommandError as ProgramError
from tailrace.workers.command.errors import CommandNotExecutableError, CommandNotFoundError, CommandScreenError
from tailrace.workers.command.lines import Stream


async def run_and_echo(argv: Sequence[str], redis_url: str | None, execution_id: str | None, *, quiet: bool) -> int:
    """Return the program's own exit code. Raises BusError, CliError when it could not be run."""
    if execution_id is not None:
        check_execution_id(execution_id, field="--id")
    say = _say_nothing if quiet else _say
    screen = Screen(_own_outputs())
    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, screen.resize)
    async with await open_bus(redis_url) as bus:
        chosen = execution_id or bus.new_execution_id()
        say(f"execution {chosen}")
        try:
            result = await run_command(bus, chosen, argv, screen=screen)
        except CommandFailedError as error:
            code = _exit_code(error)
            name = error.details.get("signal")
            how = f"{name}, exit code {code}" if name else f"exit code {code}"
            say(f"execution {chosen} failed after {_shown(error.details['duration_seconds'])} ({how})")
            return code
        except ProgramError as error:
            raise CliError(str(error), _code_of(error)) from None
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            say(f"execution {chosen} was cancelled; 'tailrace tail {chosen}' shows who cancelled it")
            return ExitCode.RUN_FAILED
        say(f"execution {chosen} completed in {_shown(result['duration_seconds'])} (exit code 0)")
        return ExitCode.OK


def _own_outputs() -> dict[Stream, int]:
    """Without those that were closed before we began: their numbers are by now those of other files."""
    outputs: dict[Stream, int] = {}
    if sys.stdout is not None:
        outputs["stdout"] = sys.stdout.fileno()
    if sys.stderr is not None:
        outputs["stderr"] = sys.stderr.fileno()
    return outputs


def _say(line: str) -> None:
    if sys.stderr is not None:
        # The program's exit code is ours, whether this can be read or not.
        with suppress(OSError):
            print(f"tailrace: {line}", file=sys.stderr, flush=True)


def _say_nothing(_line: str) -> None:
    pass


def _shown(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{seconds:.1f} s" if not minutes else f"{minutes:.0f} min {rest:.0f} s"


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
        case CommandScreenError():
            return ExitCode.RUN_FAILED
        case _:
            return ExitCode.USAGE
