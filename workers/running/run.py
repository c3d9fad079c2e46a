"""An execution, as the steps of its pipeline need it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

from tailrace.bus.bus import Bus
from tailrace.bus.model.codec import encode, ts_of
from tailrace.bus.model.event import Event
from tailrace.bus.ownership.checkpoints import Restored
from tailrace.bus.ownership.execution import Execution
from tailrace.bus.ownership.left_calls import LeftCalls
from tailrace.bus.redis.retrying import retry_unavailable
from tailrace.workers.definition.backing import Answer
from tailrace.workers.definition.streaming import Streaming

GIVE_UP_AFTER_SECONDS: Final = 30.0

T = TypeVar("T")


class PipelineExecution(Protocol):
    """``emit`` and ``pause_point`` wait while the execution is paused; a cancellation arrives at any await."""

    @property
    def id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def max_event_bytes(self) -> int: ...

    @property
    def left_calls(self) -> LeftCalls:
        """What a step has left behind and still goes on."""

    @property
    def backlogged(self) -> bool:
        """Whether events come faster than Redis, which answers, takes them."""

    async def emit(
        self, event_type: str, data: Any = None, *, step: str | None = None, meta: dict[str, Any] | None = None
    ) -> None: ...

    async def pause_point(self) -> None: ...

    async def state_once(self, event_type: str, data: Any, *, step: str, series: str, number: int) -> None:
        """Append an event that any attempt may append, and the log has once: number 1, 2, 3, … of its series."""

    async def answer(self, ask: str) -> Answer:
        """The next answer to a question; each attempt sees all of them, from the first on."""

    async def restore(self) -> Restored: ...

    async def keep_output(self, step: str, packed: bytes) -> None: ...

    async def keep_state(self, step: str, packed: bytes) -> None: ...

    async def keep_answer(self, ask: str, packed: bytes) -> None: ...


class BusPipelineExecution:
    """Run for an execution that was entered. What Redis does not take at once is tried for 30 s."""

    def __init__(self, bus: Bus, execution: Execution, streaming: Streaming | None = None) -> None:
        self._bus = bus
        self._execution = execution
        self._streaming = streaming or Streaming()

    @property
    def id(self) -> str:
        return self._execution.id

    @property
    def attempt(self) -> int:
        return self._execution.attempt

    @property
    def max_event_bytes(self) -> int:
        return self._bus.log.max_event_bytes

    @property
    def left_calls(self) -> LeftCalls:
        return self._execution.left_calls

    @property
    def backlogged(self) -> bool:
        return self._execution.publisher.backlogged

    async def emit(
        self, event_type: str, data: Any = None, *, step: str | None = None, meta: dict[str, Any] | None = None
    ) -> None:
        if self._streaming.lets_pass(event_type):
            await self._execution.emit(event_type, data, step=step, meta=meta)
        else:
            await self._execution.pause_point()

    async def pause_point(self) -> None:
        await self._execution.pause_point()

    async def state_once(self, event_type: str, data: Any, *, step: str, series: str, number: int) -> None:
        await self.pause_point()
        # What was emitted before stands before it.
        await self._execution.publisher.flush()
        event = encode(Event(event_type, data, step, meta=self._execution.meta), ts=ts_of(time.time_ns() // 1_000_000))
        await _retry(
            lambda: self._bus.log.append(self.id, [event], producer=series, seq=number, fence=self._execution.fence)
        )

    async def answer(self, ask: str) -> Answer:
        # The accepted one is kept by its question; those that were rejected are counted anew by each attempt.
        signal = await self._execution.signal(f"answer:{ask}", again=True)
        return Answer(signal.data, signal.by)

    async def restore(self) -> Restored:
        # For its first owner, nothing was kept before.
        if self._execution.fence <= 1:
            return Restored()
        return await _retry(lambda: self._bus.checkpoints.restore(self.id))

    async def keep_output(self, step: str, packed: bytes) -> None:
        await _retry(lambda: self._bus.checkpoints.store(self.id, step, packed, fence=self._execution.fence))

    async def keep_state(self, step: str, packed: bytes) -> None:
        await _retry(lambda: self._bus.checkpoints.store_state(self.id, step, packed, fence=self._execution.fence))

    async def keep_answer(self, ask: str, packed: bytes) -> None:
        await _retry(lambda: self._bus.checkpoints.store_answer(self.id, ask, packed, fence=self._execution.fence))


async def _retry(call: Callable[[], Awaitable[T]]) -> T:
    """Each of these calls may be made twice: what a lost reply hid is found done."""
    return await retry_unavailable(call, seconds=GIVE_UP_AFTER_SECONDS)
