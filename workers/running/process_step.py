"""A step in a process of its own: killable, and its crash is not the worker's."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import msgpack
import orjson

from tailrace.bus.errors import InvalidInputError
from tailrace.workers.command.lines import line_limit
from tailrace.workers.command.process import Exit, Process, start
from tailrace.workers.definition.backing import Answer, Backing
from tailrace.workers.definition.context import Context
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.pipeline import Step
from tailrace.workers.errors import StepInputInvalidError, StepOverError, StepProcessError, StepProcessLostError
from tailrace.workers.running.channel import Channel, MessageTooLargeError
from tailrace.workers.running.spawn import preparation_for
from tailrace.workers.running.step_order import StepOrder

# Between SIGTERM and SIGKILL; and for a process that gave its output to end by itself.
GRACE_SECONDS: Final = 2.0


async def called_in_process(step: Step, context: Context, outputs: Outputs) -> Any:
    """Run a step's function in a new process and return its output; its printed lines become ``log`` events.

    Leaving early, by cancellation say, ends the process and all that it started. Raises StepProcessError for what the
    function raises, StepProcessLostError when the process ends without a word.
    """
    order = StepOrder(
        step.run,
        step.name,
        context.execution_id,
        context.attempt,
        context.input,
        step.options,
        dict(outputs),
        context.restored,
        step.retry_on,
    )
    async with _process(order, line_limit(context.backing.max_event_bytes)) as (process, channel):
        match await _served(process, channel, context):
            case ["done", bytes(packed)]:
                return msgpack.unpackb(packed, strict_map_key=False)
            case ["failed", dict(failure), bool(may_retry)]:
                raise StepProcessError(failure, may_retry=may_retry)
            case how:
                raise StepProcessLostError(step.name, str(how))


@contextlib.asynccontextmanager
async def _process(order: StepOrder, max_line_bytes: int) -> AsyncIterator[tuple[Process, Channel]]:
    packed = _packed(order)
    ours, theirs = socket.socketpair()
    with theirs:
        channel = await Channel.over(ours)
        with contextlib.ExitStack() as undo:
            undo.callback(channel.close)
            process = await start(
                _command(theirs),
                max_line_bytes=max_line_bytes,
                grace_seconds=GRACE_SECONDS,
                pass_fds=[theirs.fileno()],
            )
            theirs.close()
            # What it started may hold its end of the channel open for ever.
            process.on_end(channel.end)
            # The process goes first: one that sees the channel closed takes it for our death, and dies at once.
            async with process:
                for part in packed:
                    # One that died at once is noticed by the next read.
                    with contextlib.suppress(OSError):
                        await channel.send_bytes(part)
                yield process, channel


def _command(theirs: socket.socket) -> list[str]:
    entry = f"from tailrace.workers.running.process_child import main; main({theirs.fileno()})"
    return [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {entry}"]


def _packed(order: StepOrder) -> tuple[bytes, bytes]:
    """The preparation, which is what multiprocessing's own spawned processes get to find our modules, and the order."""
    try:
        told = pickle.dumps(order)
    except Exception as error:
        problem = f"its function, input and options cannot all be sent to another process ({error})"
        raise StepInputInvalidError(order.step, problem) from error
    return preparation_for(f"step {order.step}", needs_main=b"__main__" in told), told


async def _served(process: Process, channel: Channel, context: Context) -> Any:
    """Do what the process asks for. Returns its last call, or how it ended without one."""
    try:
        async with asyncio.TaskGroup() as tasks:
            # In the group: when lines cannot be told, the process would wait for ever to write more.
            telling = tasks.create_task(_tell_lines(process, context))
            ending = await _until_ended(channel, context.backing, tasks) or await _how_it_ended(process)
            # What it printed stands before its end, as far as it ends soon.
            await asyncio.wait([telling], timeout=GRACE_SECONDS)
            raise _EndedError(ending)
    except BaseExceptionGroup as errors:
        # Ending is an exception here, for it also ends those that still wait for people.
        error = next((each for each in errors.exceptions if not isinstance(each, _EndedError)), errors.exceptions[0])
        if isinstance(error, _EndedError):
            return error.ending
        raise error from None


class _EndedError(Exception):
    def __init__(self, ending: Any) -> None:
        super().__init__()
        self.ending = ending


async def _until_ended(channel: Channel, backing: Backing, waiting: asyncio.TaskGroup) -> Any:
    """The last call of the process; None when it is gone."""
    while True:
        try:
            call = await channel.receive()
        except MessageTooLargeError as error:
            return f"sent {error},"
        match call:
            case [int(number), "done" | "failed" as how, *told]:
                await _reply(channel, [number, True, None])
                return [how, *told]
            case [int(number), "next_answer", str(ask)]:
                # The only call that waits for people; all others are done in order.
                waiting.create_task(_answer(channel, backing, number, "next_answer", [ask]))
            case [int(number), str(name), *arguments]:
                await _answer(channel, backing, number, name, arguments)
            case _:
                return None


async def _answer(channel: Channel, backing: Backing, number: int, name: str, arguments: list[Any]) -> None:
    try:
        reply = [number, True, await _done(backing, name, arguments)]
    except InvalidInputError as error:
        reply = [number, False, [error.field, error.detail]]
    except StepOverError:
        return
    await _reply(channel, reply)


async def _reply(channel: Channel, reply: list[Any]) -> None:
    # A process that is gone is noticed by the next read.
    with contextlib.suppress(OSError):
        await channel.send(reply)


async def _done(backing: Backing, name: str, arguments: list[Any]) -> Any:
    match name, arguments:
        case "emit", [str(event_type), bool(is_json), data, dict() | None as meta]:
            await backing.emit(event_type, orjson.loads(data) if is_json else data, meta)
        case "save", [bytes(packed)]:
            await backing.save(packed)
        case "open_question", [str(ask), question, schema]:
            kept = await backing.open_question(ask, question, schema)
            return None if kept is None else [kept.data, kept.by]
        case "next_answer", [str(ask)]:
            answer = await backing.next_answer(ask)
            return [answer.data, answer.by]
        case "reject", [str(ask), data, by, list(problems)]:
            await backing.reject(ask, Answer(data, by), problems)
        case "resolve", [str(ask), data, by]:
            await backing.resolve(ask, Answer(data, by))
        case _:
            raise InvalidInputError("call", f"{name[:80]!r} is not a call that a step can make")
    return None


async def _tell_lines(process: Process, context: Context) -> None:
    with contextlib.suppress(StepOverError):
        async for line in process.lines():
            await context.emit("log", line.event_data)


async def _how_it_ended(process: Process) -> str:
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            end = await process.wait()
    except TimeoutError:
        return "hung up"
    return _told(end)


def _told(end: Exit) -> str:
    if end.signal is None:
        return f"exited with code {end.code}"
    try:
        return f"was ended by {signal.Signals(end.signal).name}"
    except ValueError:
        return f"was ended by signal {end.signal}"
