"""Handlers of events: sync or async, several for a type, whose errors stay theirs."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, Literal, TypeVar

from tailrace.bus.activity.undelivered import Undelivered
from tailrace.bus.bus import Bus
from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.redis.retrying import retry_unavailable
from tailrace.workers.handlers.delivery import GAP, Delivery
from tailrace.workers.handlers.pattern import check_pattern, matches
from tailrace.workers.handlers.reader import MAX_EXECUTIONS, GroupReader
from tailrace.workers.handlers.redelivery import Redelivery

logger = logging.getLogger(__name__)

Handler = Callable[[Delivery], Any] | Callable[[Delivery], Awaitable[Any]]
H = TypeVar("H", bound=Callable[..., Any])

# Anybody may invent types; what matches which is remembered for so many of them.
MAX_REMEMBERED: Final = 4096


class _Entry:
    __slots__ = ("call", "is_async", "name", "patterns")

    def __init__(self, call: Handler, patterns: tuple[str, ...]) -> None:
        self.call = call
        self.patterns = patterns
        called = call if inspect.isroutine(call) else getattr(call, "__call__", call)  # noqa: B004 - its kind is asked, not whether it is there
        self.is_async = inspect.iscoroutinefunction(called)
        self.name = getattr(call, "__qualname__", None) or type(call).__qualname__


class _HandlerFailed(Exception):  # noqa: N818 - it never leaves this module
    """``error`` is None for a cancellation of the handler's own."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error


class Handlers:
    """What is to be done about which events.

    Events of one execution are handled one after the other, in the order of its log; the handlers of one event run
    beside each other, plain functions in threads. What one raises is logged and counted (``failures``, by handler)
    and concerns no other handler.
    """

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self._entries: list[_Entry] = []
        self._remembered: dict[str, tuple[_Entry, ...]] = {}

    def on(self, *patterns: str) -> Callable[[H], H]:
        """Register a function for types or patterns of types: ``@handlers.on("quality.check", "step.*")``."""
        if not patterns:
            raise TypeError("name at least one type, or '*' for all: @handlers.on('step.*')")

        def registered(call: H) -> H:
            self.add(call, *patterns)
            return call

        return registered

    def add(self, handler: Handler, *patterns: str) -> None:
        """Register anything that can be called with a Delivery; for all types when none is named.

        Raises InvalidInputError for a pattern that can match nothing.
        """
        if not callable(handler):
            raise TypeError(f"{handler!r} cannot be called: a handler takes a Delivery")
        self._entries.append(_Entry(handler, tuple(check_pattern(pattern) for pattern in patterns or ("*",))))
        self._remembered.clear()

    async def handle(self, delivery: Delivery) -> None:
        """Call all handlers of an event, and wait for them. Raises nothing of theirs."""
        wanted = self._wanted(delivery.type)
        if not wanted:
            if delivery.type == GAP:
                logger.warning(
                    "execution %s: events are missing from its log: %s", delivery.execution_id, delivery.data
                )
        elif len(wanted) == 1:
            await self._call(wanted[0], delivery)
        else:
            await asyncio.gather(*(self._call(entry, delivery) for entry in wanted))

    async def follow(self, bus: Bus, execution_id: str, after: Cursor | str = START) -> None:
        """Handle one execution's events, from a cursor to its end. Nothing is kept of how far it has come.

        Raises what ``tailrace.bus.log.follow`` raises.
        """
        async with aclosing(bus.follow(execution_id, after)) as items:
            async for item in items:
                await self.handle(Delivery.of(execution_id, item))

    async def follow_all(
        self,
        bus: Bus,
        group: str,
        *,
        since: Literal["start", "now"] = "start",
        max_executions: int = MAX_EXECUTIONS,
        retries: int = 3,
        retry_delay_seconds: float = 0.5,
    ) -> None:
        """Handle the events of all executions, until cancelled. Any number of processes may share a group's work.

        How far the group has come in each execution stands in Redis. Every event is handled at least once: after a
        crash, what followed the last note of it (half a second at most) comes again, marked as ``repeated``; after a
        cancellation nothing does. A new group begins with what the activity still holds (some ten thousand
        executions), or with what happens from ``now`` on. ``max_executions`` bounds what is followed at a time.

        A handler that fails is called again, up to ``retries`` times, after ``retry_delay_seconds`` and twice as long
        each time; the execution's next events wait, those of others do not. What it fails at for good is kept for a
        week: ``bus.undelivered(group)``, from where it can be requeued.

        Raises InvalidInputError for a group's name; Redis' outages are waited for.
        """
        if retries < 0 or not retry_delay_seconds >= 0:
            raise InvalidInputError("retries", "retries and retry_delay_seconds must be at least 0")
        undelivered = bus.undelivered(group)
        persistent = _Persistent(self, bus.counters, undelivered, retries, retry_delay_seconds)
        reader = GroupReader(bus, group, persistent.handle, since=since, max_executions=max_executions)
        again = asyncio.create_task(
            Redelivery(bus, undelivered, persistent.handle_again, reader.name).run(), name="handlers:again"
        )
        try:
            await reader.run()
        finally:
            again.cancel()
            await asyncio.wait([again])

    def _wanted(self, event_type: str) -> tuple[_Entry, ...]:
        wanted = self._remembered.get(event_type)
        if wanted is None:
            wanted = tuple(
                entry for entry in self._entries if any(matches(pattern, event_type) for pattern in entry.patterns)
            )
            if len(self._remembered) < MAX_REMEMBERED:
                self._remembered[event_type] = wanted
        return wanted

    async def _call(self, entry: _Entry, delivery: Delivery) -> None:
        try:
            await self._try(entry, delivery)
        except _HandlerFailed as failed:
            self._failed(entry, delivery, failed.error)

    async def _try(self, entry: _Entry, delivery: Delivery) -> None:
        """Raises _HandlerFailed."""
        try:
            returned = entry.call(delivery) if entry.is_async else await asyncio.to_thread(entry.call, delivery)
            if inspect.isawaitable(returned):
                await returned
        except asyncio.CancelledError:
            # A handler may raise this too, of some task of its own that was cancelled.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise _HandlerFailed(None) from None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a handler may raise anything; sys.exit() is not ours to obey
            raise _HandlerFailed(error) from None

    def _failed(self, entry: _Entry, delivery: Delivery, error: BaseException | None) -> None:
        count = self.failures[entry.name] = self.failures[entry.name] + 1
        # The first, the second, the fourth, …: one that always fails must not fill a disk with saying so.
        if count & (count - 1) == 0:
            place = f"{delivery.type} {delivery.id} of execution {delivery.execution_id}"
            logger.error("handler %s failed at %s (failure %d)", entry.name, place, count, exc_info=error)


class _Persistent:
    """Handlers that are called again where they fail, and whose failures are kept."""

    def __init__(
        self, handlers: Handlers, counters: Counters, undelivered: Undelivered, retries: int, delay_seconds: float
    ) -> None:
        self._handlers = handlers
        self._counters = counters
        self._undelivered = undelivered
        self._retries = retries
        self._delay_seconds = delay_seconds

    async def handle(self, delivery: Delivery) -> None:
        wanted = self._handlers._wanted(delivery.type)  # noqa: SLF001 - its other half
        if not wanted or delivery.type == GAP:
            # A gap has no place in the log to come back to.
            await self._handlers.handle(delivery)
            return
        await asyncio.gather(*(self._persist(entry, delivery) for entry in wanted))

    async def handle_again(self, handler: str, delivery: Delivery) -> bool:
        """Give an event to one handler only; False where there is none of that name here."""
        named = [entry for entry in self._handlers._wanted(delivery.type) if entry.name == handler]  # noqa: SLF001
        await asyncio.gather(*(self._persist(entry, delivery) for entry in named))
        return bool(named)

    async def _persist(self, entry: _Entry, delivery: Delivery) -> None:
        for attempt in range(self._retries + 1):
            try:
                await self._handlers._try(entry, delivery)  # noqa: SLF001
            except _HandlerFailed as failed:
                error = failed.error
            else:
                return
            if attempt < self._retries:
                self._counters.add("handler_retries")
                await asyncio.sleep(self._delay_seconds * 2**attempt * (0.8 + 0.4 * random.random()))
        self._handlers._failed(entry, delivery, error)  # noqa: SLF001
        self._counters.add("handler_undelivered")
        what = "cancelled" if error is None else f"{type(error).__name__}: {error}"
        # Before it is noted that the group has come this far.
        await retry_unavailable(
            lambda: self._undelivered.add(
                delivery.execution_id, delivery.cursor, delivery.type, entry.name, what, self._retries + 1
            )
        )
