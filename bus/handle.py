"""An execution in the hands of whoever submitted it, or knows its id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, Self

from tailrace.bus.control import Control, Outcome
from tailrace.bus.errors import (
    ExecutionCancelledError,
    ExecutionFailedError,
    ExecutionTimedOutError,
    ExecutionUnknownError,
    ResultLostError,
)
from tailrace.bus.log.log import Log
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.control_request import GRACE_SECONDS
from tailrace.bus.model.cursor import START, Cursor, just_before
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import CANCELLED, COMPLETED, FAILED, TIMED_OUT
from tailrace.bus.model.filter import Filter, check_patterns
from tailrace.bus.model.state import State

_Follow = Callable[[str, Cursor | str], AsyncGenerator[Entry | Gap, None]]
_ENDINGS: Final = {FAILED: ExecutionFailedError, CANCELLED: ExecutionCancelledError, TIMED_OUT: ExecutionTimedOutError}


class Handle(str):  # noqa: SLOT000 - text cannot have slots with values
    """The execution's id, as text, and what can be done with it.

    It holds no connection and may be kept, sent and compared as an id. Each method raises BusUnavailableError while
    Redis is away.
    """

    _control: Control
    _log: Log
    _follow: _Follow

    @classmethod
    def of(cls, execution_id: str, control: Control, log: Log, follow: _Follow) -> Self:
        """For ``bus.submit`` and ``bus.handle``."""
        handle = cls(execution_id)
        handle._control, handle._log, handle._follow = control, log, follow
        return handle

    @property
    def id(self) -> str:
        """The id alone."""
        return str.__str__(self)

    async def state(self) -> State:
        """How it stands. Raises ExecutionUnknownError, also once its retention has passed."""
        state = await self._log.state(self.id)
        if state is not None:
            return state
        if await self._log.exists(self.id):
            return State(self.id, "unknown")
        raise ExecutionUnknownError(self.id)

    async def result(self, timeout_seconds: float | None = None) -> Any:
        """Wait for the ending, and give the result that it carries.

        Raises what the ending says: ExecutionFailedError, ExecutionCancelledError, ExecutionTimedOutError; TimeoutError
        when it has not ended after ``timeout_seconds``, None for no limit; ExecutionUnknownError; ResultLostError when
        it has ended and its log has expired.
        """
        async with asyncio.timeout(timeout_seconds):
            ending = await self._ending()
        if ending.type == COMPLETED:
            data = ending.data
            return data.get("result") if isinstance(data, dict) else data
        raise _ENDINGS[ending.type](self.id, ending.data)

    async def events(
        self, after: Cursor | str = START, *, types: Sequence[str] | None = None
    ) -> AsyncGenerator[Entry | Gap, None]:
        """Replay after a cursor, then live, until the terminal event; gaps are items. Close it with ``aclosing``.

        ``types`` are exact or as ``step.*``; gaps and the ending come always. Raises InvalidCursorError,
        InvalidInputError.
        """
        wanted = None if types is None else Filter(check_patterns(types))
        async with aclosing(self._follow(self.id, after)) as items:
            async for item in items:
                if wanted is None or isinstance(item, Gap) or wanted.wants(item):
                    yield item

    async def cancel(
        self,
        *,
        reason: str | None = None,
        by: str | None = None,
        grace_seconds: float = GRACE_SECONDS,
        wait_seconds: float = 0.0,
    ) -> Outcome:
        """As ``bus.control.cancel``."""
        return await self._control.cancel(
            self.id, reason=reason, by=by, grace_seconds=grace_seconds, wait_seconds=wait_seconds
        )

    async def pause(self, *, by: str | None = None, wait_seconds: float = 0.0) -> Outcome:
        """As ``bus.control.pause``."""
        return await self._control.pause(self.id, by=by, wait_seconds=wait_seconds)

    async def resume(self, *, by: str | None = None, wait_seconds: float = 0.0) -> Outcome:
        """As ``bus.control.resume``."""
        return await self._control.resume(self.id, by=by, wait_seconds=wait_seconds)

    async def signal(self, name: str, data: Any = None, *, by: str | None = None, wait_seconds: float = 0.0) -> Outcome:
        """As ``bus.control.signal``."""
        return await self._control.signal(self.id, name, data, by=by, wait_seconds=wait_seconds)

    async def _ending(self) -> Entry:
        while True:
            state = await self.state()
            if state.terminal is not None:
                return await self._terminal(state.terminal)
            # What is there is not read again, however long the log.
            async with aclosing(self._follow(self.id, await self._log.latest(self.id))) as items:
                async for item in items:
                    if isinstance(item, Entry) and item.is_terminal:
                        return item

    async def _terminal(self, cursor: Cursor) -> Entry:
        page = await self._log.read(self.id, Numbering.after(just_before(cursor)), 1)
        for item in page.items:
            if isinstance(item, Entry) and item.cursor == cursor:
                return item
        raise ResultLostError(self.id)
