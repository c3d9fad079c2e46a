"""Handlers of events: sync or async, several for a type, whose errors stay theirs."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, Literal, TypeVar

from tailrace.bus.bus import Bus
from tailrace.bus.model.cursor import START, Cursor
from tailrace.workers.handlers.delivery import GAP, Delivery
from tailrace.workers.handlers.pattern import check_pattern, matches
from tailrace.workers.handlers.reader import MAX_EXECUTIONS, GroupReader

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
    ) -> None:
        """Handle the events of all executions, until cancelled. Any number of processes may share a group's work.

        How far the group has come in each execution stands in Redis. Every event is handled at least once: after a
        crash, what followed the last note of it (half a second at most) comes again, marked as ``repeated``; after a
        cancellation nothing does. A new group begins with what the activity still holds (some ten thousand
        executions), or with what happens from ``now`` on. ``max_executions`` bounds what is followed at a time.

        Raises InvalidInputError for a group's name; Redis' outages are waited for.
        """
        await GroupReader(bus, group, self.handle, since=since, max_executions=max_executions).run()

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
            returned = entry.call(delivery) if entry.is_async else await asyncio.to_thread(entry.call, delivery)
            if inspect.isawaitable(returned):
                await returned
        except asyncio.CancelledError:
            # A handler may raise this too, of some task of its own that was cancelled.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            self._failed(entry, delivery, None)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a handler may raise anything; sys.exit() is not ours to obey
            self._failed(entry, delivery, error)

    def _failed(self, entry: _Entry, delivery: Delivery, error: BaseException | None) -> None:
        count = self.failures[entry.name] = self.failures[entry.name] + 1
        # The first, the second, the fourth, …: one that always fails must not fill a disk with saying so.
        if count & (count - 1) == 0:
            place = f"{delivery.type} {delivery.id} of execution {delivery.execution_id}"
            logger.error("handler %s failed at %s (failure %d)", entry.name, place, count, exc_info=error)
