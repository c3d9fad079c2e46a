"""The process of a step, from inside: take the order, call the function, say what it gave.

The function has the main thread. Another thread talks to the worker, and ends this process when the worker is gone.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import msgpack

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.event import encode_json
from tailrace.bus.ownership.checkpoints import pack
from tailrace.bus.ownership.execution import failure_of
from tailrace.workers.definition.backing import Answer
from tailrace.workers.definition.context import Context, flush_token
from tailrace.workers.definition.parameters import Parameters
from tailrace.workers.definition.step_call import prepared
from tailrace.workers.errors import OutputInvalidError, StepCancelledError, StepExitedError, StepInputInvalidError
from tailrace.workers.running.channel import Channel, MessageTooLargeError
from tailrace.workers.running.spawn import prepare
from tailrace.workers.running.step_order import StepOrder

MAX_EVENT_BYTES: Final = 2 * 1024 * 1024
T = TypeVar("T")


class ParentWorker:
    """The worker at the other end of the socket, as its step's backing; may be called from any thread and loop."""

    def __init__(self, connected: socket.socket) -> None:
        self.loop = asyncio.new_event_loop()
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        threading.Thread(target=self._run, name="worker", daemon=True).start()
        self._channel = self.wait(self._open(connected))

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result()

    def order(self) -> StepOrder:
        preparation, order = self.wait(self._taken()), self.wait(self._taken())
        # Before either is used: what goes wrong with them has to be told, and the answer heard.
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop)
        prepare(preparation)
        ordered: StepOrder = pickle.loads(order)  # noqa: S301 - from the worker that started us
        return ordered

    def done(self, packed: bytes) -> None:
        # Answered, so that nothing of it is on its way any more when this process ends.
        self.wait(self._asked("done", (packed,)))

    def failed(self, error: BaseException, retry_on: tuple[type[Exception], ...] = (Exception,)) -> None:
        for_good = isinstance(error, StepInputInvalidError | OutputInvalidError) or not isinstance(error, retry_on)
        failure = msgpack.unpackb(msgpack.packb(failure_of(error), default=str), strict_map_key=False)
        self.wait(self._asked("failed", (failure, not for_good)))

    @property
    def max_event_bytes(self) -> int:
        return MAX_EVENT_BYTES

    async def emit(self, event_type: str, data: Any, meta: dict[str, Any] | None = None) -> None:
        is_json = not isinstance(data, bytes)
        sent = encode_json(data, limit_bytes=MAX_EVENT_BYTES) if is_json else data
        await self._call("emit", event_type, is_json, sent, meta)

    async def save(self, packed: bytes) -> None:
        await self._call("save", packed)

    async def open_question(self, ask: str, question: Any, schema: dict[str, Any] | None) -> Answer | None:
        kept = await self._call("open_question", ask, question, schema)
        return None if kept is None else Answer(*kept)

    async def next_answer(self, ask: str) -> Answer:
        return Answer(*await self._call("next_answer", ask))

    async def reject(self, ask: str, answer: Answer, problems: list[str]) -> None:
        await self._call("reject", ask, answer.data, answer.by, problems)

    async def resolve(self, ask: str, answer: Answer) -> None:
        await self._call("resolve", ask, answer.data, answer.by)

    async def _call(self, name: str, *arguments: Any) -> Any:
        # The step has a loop of its own when it is async.
        asked = asyncio.run_coroutine_threadsafe(self._asked(name, arguments), self.loop)
        return await asyncio.wrap_future(asked)

    async def _asked(self, name: str, arguments: tuple[Any, ...]) -> Any:
        self._number += 1
        number = self._number
        reply = self._replies[number] = self.loop.create_future()
        try:
            await self._sent(number, name, arguments)
            return await reply
        finally:
            self._replies.pop(number, None)

    async def _sent(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        try:
            await self._channel.send([number, name, *arguments])
        except MessageTooLargeError as error:
            raise InvalidInputError(name, f"is {error}; store it elsewhere and give a reference") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInputError(name, f"cannot be sent ({error}); give what JSON can hold") from None

    async def _open(self, connected: socket.socket) -> Channel:
        return await Channel.over(connected)

    async def _taken(self) -> bytes:
        part = await self._channel.receive_bytes()
        if part is None:
            _end()
        return part or b""

    async def _listen(self) -> None:
        while True:
            match await self._channel.receive():
                case [int(number), True, value]:
                    self._settle(number, value, None)
                case [int(number), False, [str(field), str(detail)]]:
                    self._settle(number, None, InvalidInputError(field, detail))
                case _:
                    _end()

    def _settle(self, number: int, value: Any, error: Exception | None) -> None:
        reply = self._replies.get(number)
        if reply is None or reply.done():
            return
        if error is None:
            reply.set_result(value)
        else:
            reply.set_exception(error)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


def main(descriptor: int) -> None:
    worker = ParentWorker(socket.socket(fileno=descriptor))
    try:
        order = worker.order()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
        worker.failed(error)
        return
    try:
        packed = _packed(order.step, _called(worker, order))
    except SystemExit as error:
        worker.failed(StepExitedError(order.step, error.code), order.retry_on)
    except asyncio.CancelledError:
        worker.failed(StepCancelledError(order.step), order.retry_on)
    except BaseException as error:  # noqa: BLE001 - as above
        worker.failed(error, order.retry_on)
    else:
        worker.done(packed)
    # The thread that talks to the worker would take our end for the worker's.
    sys.stdout.flush()
    sys.stderr.flush()


def _called(worker: ParentWorker, order: StepOrder) -> Any:
    context = Context(
        order.execution_id,
        order.given,
        order.attempt,
        worker,
        order.step,
        restored=order.restored,
        loop=worker.loop,
    )
    returned = prepared(order.run, Parameters.of(order.run), context, order.options, order.outputs)()
    output = asyncio.run(_awaited(returned)) if inspect.isawaitable(returned) else returned
    worker.wait(flush_token(context))
    return output


async def _awaited(returned: Any) -> Any:
    return await returned


def _packed(step: str, output: Any) -> bytes:
    try:
        return pack(output)
    except InvalidInputError as error:
        raise OutputInvalidError(step, error.detail) from None


def _end() -> None:
    """The worker is gone: end this process and all that it started."""
    os.killpg(os.getpgrp(), signal.SIGKILL)
