"""Cancel, pause, resume and signal executions, on whichever host they run.

A request is appended to the execution's log, from where it reaches the owner; it outlives both processes. Its
outcome is an event, too: what answers it names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from tailrace.bus.errors import (
    AppendRefusedError,
    BusUnavailableError,
    ControlTimeoutError,
    ExecutionUnknownError,
    InvalidInputError,
    TransitionRefusedError,
)
from tailrace.bus.log.appender import Appender
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.log.log import Log
from tailrace.bus.model.control_request import GRACE_SECONDS, answers, check_grace, check_text
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import (
    CANCEL_REQUESTED,
    CANCELLED,
    PAUSE_REQUESTED,
    PAUSED,
    RESUME_REQUESTED,
    RESUMED,
    SIGNAL_REQUESTED,
    TERMINAL_TYPES,
    Event,
    check_execution_id,
    encode_json,
)
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.state import State

# The owner holds all signals that wait for its execution.
MAX_SIGNAL_BYTES: Final = 64 * 1024
# An execution changes under our eyes, and one that has just been taken is not running yet.
LOOKS: Final = 10
LOOK_AGAIN_SECONDS: Final = 0.05
_STATUS_AFTER: Final[dict[str, Status]] = {
    PAUSED: "paused",
    RESUMED: "running",
    **{ending: cast("Status", ending.partition(".")[2]) for ending in TERMINAL_TYPES},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """``request`` is the id of the request in the log; ``event`` what answers it, None as long as nothing does.

    The ending answers every request that came before it. ``status`` is that of the execution.
    """

    execution_id: str
    request: str
    event: Entry | None
    status: Status


async def await_outcome(
    asked: Outcome,
    items: AsyncGenerator[Entry | Gap, None],
    status: Callable[[str], Awaitable[Status]],
    wait_seconds: float,
) -> Outcome:
    """The outcome of a request, from what follows it in the log; without an event when that ends and none answers it.

    ``status`` reads that of an execution, where the answer does not say it. Raises ControlTimeoutError, and what it and
    ``items`` do.
    """
    if asked.event is not None:
        return asked
    try:
        async with asyncio.timeout(wait_seconds), aclosing(items):
            async for item in items:
                if isinstance(item, Entry) and answers(asked.request, item):
                    after = _STATUS_AFTER.get(item.type) or await status(asked.execution_id)
                    return replace(asked, event=item, status=after)
    except TimeoutError:
        raise ControlTimeoutError(asked.execution_id, asked.request, wait_seconds) from None
    return replace(asked, status=await status(asked.execution_id))


class Control:
    """Sends requests to the owner of an execution, on whichever host it is.

    Raises ExecutionUnknownError, ExecutionClosedError, TransitionRefusedError (what is being cancelled can be asked
    nothing else), InvalidInputError and BusUnavailableError.

    With ``wait_seconds`` they return the outcome, or raise ControlTimeoutError: the request then still stands. ``by``
    says who asks, and stands in the log.
    """

    def __init__(
        self, log: Log, index: ExecutionIndex, follow: Callable[[str, str], AsyncGenerator[Entry | Gap, None]]
    ) -> None:
        self._log = log
        self._index = index
        self._follow = follow
        self._appender = Appender(log)

    async def cancel(
        self,
        execution_id: str,
        *,
        reason: str | None = None,
        by: str | None = None,
        grace_seconds: float = GRACE_SECONDS,
        wait_seconds: float = 0.0,
    ) -> Outcome:
        """End it with ``execution.cancelled``, unless it ends before the request reaches it.

        Its owner has ``grace_seconds`` to stop; then it is ended by force. What waits for a worker ends at once.
        """
        _check_wait(wait_seconds)
        said = _said(by=by, reason=reason)
        request = Event(CANCEL_REQUESTED, {**said, "grace_seconds": check_grace(grace_seconds)})
        ending = Event(CANCELLED, {"reason": "cancelled", **said})
        for look in range(LOOKS):
            state = await self._state(execution_id)
            try:
                if state.status == "queued":
                    ended = await self._appender.append(execution_id, [request, ending])
                    asked = Cursor(ended.cursor.ms, ended.cursor.n - 1)
                    return Outcome(execution_id, str(asked), ended, "cancelled")
                asked = (await self._appender.append(execution_id, [request])).cursor
            except TransitionRefusedError:
                if look == LOOKS - 1 or (state.owner is None and look > 0):
                    raise
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            else:
                outcome = await self._cancelling(execution_id, asked, grace_seconds, said)
                return await self._waited(outcome, wait_seconds)
        raise AssertionError("unreachable")

    async def pause(self, execution_id: str, *, by: str | None = None, wait_seconds: float = 0.0) -> Outcome:
        """Pause it where it next emits an event."""
        return await self._ask(execution_id, Event(PAUSE_REQUESTED, _said(by=by)), wait_seconds)

    async def resume(self, execution_id: str, *, by: str | None = None, wait_seconds: float = 0.0) -> Outcome:
        """Let what was paused go on. Outcomes and errors are those of ``pause``."""
        return await self._ask(execution_id, Event(RESUME_REQUESTED, _said(by=by)), wait_seconds)

    async def signal(
        self, execution_id: str, name: str, data: Any = None, *, by: str | None = None, wait_seconds: float = 0.0
    ) -> Outcome:
        """Send its body a signal with at most 64 KiB of JSON; answered when it has arrived there."""
        check_text(name, field="name")
        encode_json(data, limit_bytes=MAX_SIGNAL_BYTES)
        said = {**_said(by=by), "name": name, **({} if data is None else {"data": data})}
        return await self._ask(execution_id, Event(SIGNAL_REQUESTED, said), wait_seconds)

    async def wait(self, outcome: Outcome, wait_seconds: float) -> Outcome:
        """Wait for the answer to what was asked before. Raises ControlTimeoutError, BusUnavailableError."""
        items = self._follow(outcome.execution_id, outcome.request)
        return await await_outcome(outcome, items, self.status, wait_seconds)

    async def status(self, execution_id: str) -> Status:
        """Raises ExecutionUnknownError, BusUnavailableError."""
        return (await self._state(execution_id)).status

    async def _ask(self, execution_id: str, request: Event, wait_seconds: float) -> Outcome:
        _check_wait(wait_seconds)
        for look in range(LOOKS):
            state = await self._state(execution_id)
            try:
                asked = await self._appender.append(execution_id, [request])
            except TransitionRefusedError as refusal:
                if look == LOOKS - 1 or refusal.status != "none" or state.owner is None:
                    raise
                # An owner has just taken it, and has not appended that it runs.
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            else:
                return await self._waited(Outcome(execution_id, asked.id, None, state.status), wait_seconds)
        raise AssertionError("unreachable")

    async def _cancelling(
        self, execution_id: str, asked: Cursor, grace_seconds: float, said: dict[str, Any]
    ) -> Outcome:
        """Schedule a healer for when the grace is over, or cancel what has lost its worker meanwhile."""
        outcome = Outcome(execution_id, str(asked), None, "cancelling")
        state = await self._state(execution_id)
        if state.status == "queued":
            # It lost its worker just now, and may have to wait for the next.
            with suppress(AppendRefusedError):
                ending = Event(CANCELLED, {"reason": "cancelled", **said, "request": outcome.request})
                return replace(outcome, event=await self._appender.append(execution_id, [ending]), status="cancelled")
        # A healer looks when the grace is over; at once where it has no owner.
        with suppress(BusUnavailableError):
            grace_ms = 0 if state.owner is None else int(grace_seconds * 1000)
            await self._index.look_at(execution_id, asked.ms + grace_ms)
        return outcome

    async def _waited(self, outcome: Outcome, wait_seconds: float) -> Outcome:
        return await self.wait(outcome, wait_seconds) if wait_seconds > 0 else outcome

    async def _state(self, execution_id: str) -> State:
        """Raises ExecutionUnknownError."""
        state = await self._log.state(check_execution_id(execution_id))
        if state is not None:
            return state
        if await self._log.exists(execution_id):
            return State(execution_id, "unknown")
        raise ExecutionUnknownError(execution_id)


def _said(*, by: str | None, reason: str | None = None) -> dict[str, Any]:
    """Raises InvalidInputError."""
    said = {}
    if by is not None:
        said["by"] = check_text(by, field="by")
    if reason is not None:
        said["reason"] = check_text(reason, field="reason")
    return said


def _check_wait(wait_seconds: float) -> None:
    if not 0 <= wait_seconds < float("inf"):
        raise InvalidInputError("wait_seconds", "expected a number of seconds, 0 or more")
