"""Functions for steps that are processes: another process finds them here by name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from tailrace.workers import Context, Outputs, PlainContext

LONG_SECONDS = 300


class Page(BaseModel):
    url: str
    size: int = Field(ge=0)


class Given(BaseModel):
    url: str
    directory: str = ""


class Verdict(BaseModel):
    go: bool


def tell_pid(_ctx: Context) -> int:
    return os.getpid()


def fetch(ctx: PlainContext, given: Given) -> Page:
    ctx.progress(0.5, "half way")
    ctx.token("some \ud83d")
    ctx.token("\ude00 text \ud83d")
    ctx.metric("bytes", 3, "B")
    ctx.quality("size", 0.9, passed=True)
    ctx.emit("custom.fetched", {"url": given.url}, meta={"mode": "custom"})
    ctx.emit("custom.raw", b"\x00\x01")
    print("printed")
    print("complained", file=sys.stderr)
    return Page(url=given.url, size=3)


async def measure(ctx: Context, fetch: Page, outputs: Outputs) -> list[Any]:
    await ctx.log("in a loop of its own")
    await asyncio.sleep(0)
    return [type(fetch).__name__, fetch.size, sorted(outputs), os.getpid()]


def fail(_ctx: Context) -> None:
    error = ValueError("it went wrong")
    error.code = "odd"  # type: ignore[attr-defined]
    error.details = {"where": "here"}  # type: ignore[attr-defined]
    raise error


def fail_once(ctx: PlainContext) -> Any:
    if ctx.restored is None:
        ctx.checkpoint({"page": 7})
        raise OSError("away")
    return ctx.restored


def leave(_ctx: Context) -> None:
    sys.exit(3)


def crash(_ctx: Context) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def vanish(_ctx: Context) -> None:
    os._exit(7)


def give_object(_ctx: Context) -> object:
    return object()


def give_much(_ctx: Context) -> bytes:
    return b"x" * 1_000_000


def say_wrong(ctx: PlainContext) -> list[str]:
    refusals = []
    for event_type, data in (
        ("No Type", 1),
        ("execution.completed", 1),
        ("custom.x", object()),
        ("custom.x", "x" * 300_000),
    ):
        try:
            ctx.emit(event_type, data)
        except ValueError as error:
            refusals.append(str(error).partition(":")[0])
    return refusals


def ask(ctx: PlainContext) -> list[Any]:
    verdict = ctx.ask("Go?", Verdict)
    return [type(verdict).__name__, verdict.go]


def block(ctx: PlainContext, given: Given) -> None:
    """Starts another process, tells both, and then holds its own for ever, as a tight loop would."""
    child = subprocess.Popen(["sleep", str(LONG_SECONDS)])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if given.directory:
        (Path(given.directory) / "pids").write_text(f"{os.getpid()} {child.pid}")
    ctx.log(f"{os.getpid()} {child.pid}")
    end = time.monotonic() + LONG_SECONDS
    while time.monotonic() < end:
        sum(range(1000))


def die_before_ones_child(ctx: PlainContext) -> None:
    """The child inherits all that this process has open, and lives on."""
    child = os.fork()
    if child == 0:
        time.sleep(LONG_SECONDS)
        os._exit(0)
    ctx.log(str(child))
    print("last words", flush=True)
    os._exit(7)


def give_all_before_ones_child(ctx: PlainContext) -> str:
    child = os.fork()
    if child == 0:
        time.sleep(LONG_SECONDS)
        os._exit(0)
    ctx.log(str(child))
    return "given"


def say_too_much(ctx: PlainContext) -> str:
    try:
        ctx.emit("custom.x", b"x" * 5_000_000)
    except ValueError as error:
        return str(error)
    return "taken"


def send_too_much(_ctx: Context) -> None:
    """What no function does by accident: writes to the worker past our own code."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()).startswith("socket:"):
                os.write(int(descriptor.name), struct.pack("!I", 2**31))
    time.sleep(LONG_SECONDS)


def print_control_characters(_ctx: Context) -> str:
    sys.stdout.write("\0" * 70_000)
    return "printed"


async def cancel_something_of_its_own(_ctx: Context) -> None:
    task = asyncio.create_task(asyncio.sleep(LONG_SECONDS))
    task.cancel()
    await task
