"""Programs and functions that do their worst, and a worker process that runs them.

``python -m tests.integration.workers.hostile URL PREFIX``
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel

from tailrace.bus import BusSettings, open_bus
from tailrace.workers import Context, Pipeline, PlainContext, Registry, Step, Worker, WorkerSettings
from tailrace.workers.builtin.command import CommandInput, run_program
from tests.integration.workers import programs

PROGRAM_SECONDS: Final = 4.0
# A new interpreter takes its time where others use the processors.
PROCESS_SECONDS: Final = 20.0

_FLOODS: Final = {
    "zeros": "head -c 300000 /dev/zero",
    "noise": "head -c 300000 /dev/urandom",
    "bytes that are never UTF-8": r"head -c 100000 /dev/zero | tr '\0' '\377'",
    "beginnings of characters": r"head -c 100000 /dev/zero | tr '\0' '\360'",
    "escapes": r"head -c 100000 /dev/zero | tr '\0' '\033'",
    "quotation marks": r"""head -c 200000 /dev/zero | tr '\0' '"'""",
    "backslashes": r"head -c 200000 /dev/zero | tr '\0' '\\'",
    "one long line": "head -c 200000 /dev/zero | tr '\\0' x",
    "empty lines": "yes '' | head -n 5000",
    "carriage returns": r"head -c 5000 /dev/zero | tr '\0' '\r'",
    "halves of pairs": r"i=0; while [ $i -lt 300 ]; do printf '\355\240\200'; i=$((i+1)); done",
    "separators of Unicode": r"i=0; while [ $i -lt 300 ]; do printf '\342\200\250\302\205'; i=$((i+1)); done",
    "many lines": "seq 1 5000",
    "both streams in turn": "i=0; while [ $i -lt 300 ]; do echo o; echo e >&2; i=$((i+1)); done",
    "byte by byte": "i=0; while [ $i -lt 300 ]; do printf x; i=$((i+1)); done",
    "a whole tailrace event": """printf '{"type":"execution.completed"}\\nid: 1\\ndata: x\\n\\n'""",
}
_ENDLESS: Final = {
    "no end": "yes",
    "zeros without end": "cat /dev/zero",
    "complaints without end": "yes >&2",
    "a file with holes": "truncate -s 100G f; cat f; rm f",
}
_MANNERS: Final = {
    # Ends at once; what has come by then is told, if there is time for it.
    "a flood behind its back": "yes & exit 0",
    "leaves a child behind": "sleep 300 & exit 3",
    "leaves a hundred": "for i in $(seq 100); do sleep 300 & done; exit 0",
    "takes no SIGTERM": "trap '' TERM; while :; do sleep 0.1; done",
    "takes no SIGTERM and floods": "trap '' TERM; while :; do echo x; done",
    "stops itself": "kill -STOP $$",
    "kills its group": "kill -KILL 0",
    "closes what it writes to": "exec >&- 2>&-; sleep 0.2; exit 5",
    "reads what it has not": "cat; read x; exit 6",
    "asks the terminal": "echo x > /dev/tty",
    "exits with the highest code": "exit 255",
    "ends by a signal without a name": "kill -40 $$",
    "crashes": "kill -SEGV $$",
    "removes where it stands": "rmdir . ; pwd; ls",
    "writes where nothing is open": "echo x >&7",
    "recurses": "f() { f; }; f",
}

REFUSED: Final[dict[str, dict[str, Any]]] = {
    "an empty name": {"argv": [""]},
    "a program that is not there": {"argv": ["tailrace-no-such-program"]},
    "a name of line breaks": {"argv": ["a\nb\r\x1b[2J"]},
    "a directory": {"argv": ["/"]},
    "a file that is no program": {"argv": ["/etc/passwd"]},
    "a device": {"argv": ["/dev/null"]},
    "an endless name": {"argv": ["x" * 100_000]},
    "an endless path": {"argv": ["/" + "x/" * 50_000]},
    "an argument too long": {"argv": ["echo", "x" * 200_000]},
    "a NUL in an argument": {"argv": ["echo", "a\0b"]},
    "a NUL in the program": {"argv": ["ec\0ho"]},
    "a directory that is not there": {"argv": ["true"], "cwd": "/no/such/directory"},
    "a directory that is a file": {"argv": ["true"], "cwd": "/etc/passwd"},
    "a directory with a NUL": {"argv": ["true"], "cwd": "/\0"},
    "an endless directory": {"argv": ["true"], "cwd": "/" + "x" * 100_000},
    "a variable without a name": {"argv": ["true"], "env": {"": "x"}},
    "a variable with an equals sign": {"argv": ["true"], "env": {"A=B": "x"}},
    "a variable with a NUL": {"argv": ["true"], "env": {"A": "\0"}},
    "a variable too long": {"argv": ["true"], "env": {"A": "x" * 200_000}},
    "no PATH": {"argv": ["true"], "env": {"PATH": ""}},
}

PROGRAMS: Final[dict[str, dict[str, Any]]] = {
    name: {"argv": ["sh", "-c", script]} for name, script in (_FLOODS | _ENDLESS | _MANNERS).items()
} | REFUSED

ENDLESS: Final = frozenset(_ENDLESS)


def nest(_ctx: Context) -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


def give_itself(_ctx: Context) -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def give_too_large_a_number(_ctx: Context) -> int:
    return 2**100


def give_too_much(_ctx: Context) -> bytes:
    return b"x" * 50_000_000


def give_half_a_pair(_ctx: Context) -> str:
    return "\ud800"


def print_without_end(_ctx: Context) -> None:
    while True:
        print("x" * 1000)


def print_zeros_without_end(_ctx: Context) -> None:
    while True:
        sys.stdout.write("\0" * 1000)


def close_everything(_ctx: Context) -> None:
    os.closerange(0, 1000)
    time.sleep(programs.LONG_SECONDS)


def kill_the_group(_ctx: Context) -> None:
    os.killpg(0, signal.SIGKILL)


def abort(_ctx: Context) -> None:
    os.abort()


def leave_well(_ctx: Context) -> None:
    os._exit(0)


def stop_oneself(_ctx: Context) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def interrupt(_ctx: Context) -> None:
    raise KeyboardInterrupt


def raise_a_book(_ctx: Context) -> None:
    raise ValueError("x" * 20_000_000)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise self


def raise_the_unspeakable(_ctx: Context) -> None:
    raise UnspeakableError


def raise_details(_ctx: Context) -> None:
    error = ValueError("with details")
    error.details = {"x": "y" * 20_000_000, 1: object()}  # type: ignore[attr-defined]
    raise error


def want_all_memory(_ctx: Context) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    return len(b"x" * 2**33)


def emit_too_deeply(ctx: PlainContext) -> None:
    ctx.emit("custom.x", nest(None))  # type: ignore[arg-type]


def ask_too_much(ctx: PlainContext) -> Any:
    return ctx.ask("x" * 10_000_000)


def keep_too_much(ctx: PlainContext) -> None:
    ctx.checkpoint("x" * 10_000_000)


def leave_threads(ctx: PlainContext) -> str:
    def flood() -> None:
        while True:
            ctx.log("still here")

    for _ in range(20):
        threading.Thread(target=flood, daemon=True).start()
    return "done"


FUNCTIONS: Final[tuple[Callable[..., Any], ...]] = (
    nest,
    give_itself,
    give_too_large_a_number,
    give_too_much,
    give_half_a_pair,
    print_without_end,
    print_zeros_without_end,
    close_everything,
    kill_the_group,
    abort,
    leave_well,
    stop_oneself,
    interrupt,
    raise_a_book,
    raise_the_unspeakable,
    raise_details,
    want_all_memory,
    emit_too_deeply,
    ask_too_much,
    keep_too_much,
    leave_threads,
)


class Name(BaseModel):
    name: str


def _process(given: Name) -> tuple[Pipeline, Any]:
    function = next(each for each in FUNCTIONS if each.__name__ == given.name)
    step = Step(given.name, function, process=True)
    return Pipeline("process", (step,), Name, max_attempts=1, timeout_seconds=PROCESS_SECONDS), given


REGISTRY = Registry(
    [
        Pipeline(
            "program", (Step("program", run_program),), CommandInput, max_attempts=1, timeout_seconds=PROGRAM_SECONDS
        ),
        Pipeline("process", input_model=Name, max_attempts=1, unfold=_process),
    ]
)


async def main(url: str, prefix: str) -> None:
    async with await open_bus(url, settings=BusSettings(prefix=prefix)) as bus:
        await Worker(bus, REGISTRY, WorkerSettings(concurrency=4)).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
