"""The life cycles of all executions, in one stream: written behind every append, read by monitors and handlers."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tailrace.bus.activity.change import Change, line_of
from tailrace.bus.activity.group import ActivityGroup
from tailrace.bus.activity.stream import NAME, ActivityLog
from tailrace.bus.errors import BusError, BusUnavailableError, ReplyError
from tailrace.bus.log.follow import follow
from tailrace.bus.log.log import Appended
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import TAIL, Cursor, parse
from tailrace.bus.model.entry import Gap
from tailrace.bus.model.event import TERMINAL_TYPES, Event, check_execution_id, check_name, check_type, encode_json
from tailrace.bus.model.filter import check_patterns, is_wanted_type
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.labels import Labels, read_labels
from tailrace.bus.model.state import State
from tailrace.bus.model.submission import check_tenant
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.retrying import retry_unavailable
from tailrace.bus.redis.script import Script
from tailrace.bus.tail.watch import Tail

logger = logging.getLogger(__name__)

MAX_ENTRIES: Final = 50_000
# What waits while Redis is away; more of it is lost, and counted.
MAX_WAITING: Final = 10_000
MAX_BATCH: Final = 128
MAX_KNOWN: Final = 4096
CLOSING_SECONDS: Final = 2.0


# Tenant, pipeline and labels.
_Belongs = tuple[str | None, str | None, Labels]
_NOBODYS: Final[_Belongs] = (None, None, MappingProxyType({}))


class _Noted(NamedTuple):
    execution_id: str
    at: Cursor | None
    type: str
    ts: str
    raw_data: bytes
    # None where the execution's own state has to be asked.
    belongs: _Belongs | None


class Activity:
    """Writing costs its caller nothing but memory: one append is under way, what is noted meanwhile goes into the next.

    It is a copy for those who watch everything, written after the event stands in its own log: at least once while
    this process lives, and the ending of an execution also if it does not (bus.healer). Losses are counted as
    ``activity_lost``.
    """

    def __init__(
        self,
        commands: Commands,
        keys: Keys,
        *,
        counters: Counters,
        tail: Callable[[], Awaitable[Tail]],
        max_entries: int = MAX_ENTRIES,
        on_ended: Callable[..., Awaitable[None]] | None = None,
    ) -> None:
        """``on_ended`` is given the ids of executions whose ending stands here: there is no more to be told of them."""
        self.log = ActivityLog(commands, keys, counters=counters)
        self._commands = commands
        self._keys = keys
        self._counters = counters
        self._open_tail = tail
        self._on_ended = on_ended
        self._max_entries = max_entries
        self._append = Script.load("activity")
        self._waiting: deque[_Noted] = deque()
        self._writing: asyncio.Task[None] | None = None
        # Of the executions noted last.
        self._known: OrderedDict[str, _Belongs] = OrderedDict()
        self._closed = False

    def note(
        self,
        execution_id: str,
        cursor: Cursor | None,
        event_type: str,
        ts: str,
        *,
        tenant: str | None = None,
        pipeline: str | None = None,
        data: Any = None,
    ) -> None:
        """Say what became of an execution, at once and without waiting.

        ``cursor`` is the event's in the execution's log, None when it stands in none. Without tenant and pipeline, the
        execution's own state says them. Of large data only the small members are kept.
        Raises InvalidInputError for what can never be written.
        """
        check_execution_id(execution_id)
        check_type(event_type)
        belongs: _Belongs | None = None if tenant is None and pipeline is None else (tenant, pipeline, {})
        self._put(_Noted(execution_id, cursor, event_type, ts, encode_json(data), belongs))

    async def tell(self, state: State, cursor: Cursor, event: Event) -> None:
        """Write one change and wait until it stands there. Raises BusUnavailableError."""
        ts, data = event.ts or ts_of(cursor.ms), encode_json(event.data)
        belongs = (state.tenant, state.pipeline, state.labels)
        await self._write_batch([_Noted(state.execution_id, cursor, event.type, ts, data, belongs)])

    def appended(self, execution_id: str, events: Sequence[Sequence[bytes]], done: Appended) -> None:
        """Note the life-cycle events of a batch that has just been appended.

        Also of one that was there already: who appended it did not hear of it, and so has noted nothing.
        """
        first_new = len(events) - (done.written or len(events))
        for index, event in enumerate(events[first_new:], first_new):
            if event[1].startswith(b"execution."):
                fields = dict(zip(event[::2], event[1::2], strict=True))
                at = Cursor(done.ms, done.n - (len(events) - 1 - index))
                data = b"null" if b"e" in fields else fields.get(b"d", b"null")
                ts = fields[b"ts"].decode() if b"ts" in fields else ts_of(done.ms)
                self._put(_Noted(execution_id, at, event[1].decode(), ts, data, None))

    async def flush(self) -> None:
        """Wait until all that was noted is written, or counted as lost."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def follow(
        self,
        after: Cursor | str = TAIL,
        *,
        types: Sequence[str] = (),
        pipeline: str | None = None,
        tenant: str | None = None,
    ) -> AsyncGenerator[Change | Gap, None]:
        """Give what happens from now on, or after a cursor, for ever; gaps are items. A change may come twice.

        ``types`` (exact, or as ``execution.*``), ``pipeline`` and ``tenant`` leave out changes, as they do over HTTP.
        Raises InvalidCursorError, InvalidInputError, BusUnavailableError while replaying; BusClosedError when the bus
        is closed.
        """
        patterns = check_patterns(types)
        pipeline = None if pipeline is None else check_name(pipeline, field="pipeline")
        tenant = check_tenant(tenant)
        tail = await self._open_tail()
        if isinstance(after, str):
            after = await self.log.latest(NAME) if after == TAIL else parse(after, field="after")
        async with aclosing(follow(self.log, tail, NAME, after)) as items:
            async for item in items:
                if isinstance(item, Gap):
                    yield item
                elif item is None or (change := Change.of(item)) is None:
                    self._counters.add("activity_unusable")
                elif (
                    pipeline in {None, change.pipeline}
                    and tenant in {None, change.tenant}
                    and (not patterns or is_wanted_type(patterns, change.type))
                ):
                    yield change

    # ``bus.activity(types=…)``, as ``bus.list(…)`` and ``bus.count(…)``.
    __call__ = follow

    def group(self, name: str) -> ActivityGroup:
        """Readers that share the activity between them, durably. Raises InvalidInputError."""
        return ActivityGroup(self._commands, self._keys, name, counters=self._counters, open_tail=self._open_tail)

    async def aclose(self) -> None:
        """Write what was noted, for a moment; then note no more."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=CLOSING_SECONDS)
        self._closed = True
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        self._lose(len(self._waiting), "the bus was closed")
        self._waiting.clear()

    def _put(self, noted: _Noted) -> None:
        if self._closed or len(self._waiting) >= MAX_WAITING:
            self._lose(1, "the buffer is full, or the bus is closed")
            return
        self._waiting.append(noted)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="activity")

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch = list(islice(self._waiting, MAX_BATCH))
                try:
                    await retry_unavailable(
                        partial(self._write_batch, batch), on_retry=lambda _: self._counters.add("activity_retries")
                    )
                except BusError as error:
                    self._lose(len(batch), str(error))
                for _ in batch:
                    self._waiting.popleft()
        finally:
            self._writing = None

    async def _write_batch(self, batch: list[_Noted]) -> None:
        unknown = {noted.execution_id for noted in batch if noted.belongs is None} - self._known.keys()
        if unknown:
            await asyncio.gather(*map(self._look_up, unknown))
        arguments: list[bytes | str | int] = []
        for noted in batch:
            tenant, pipeline, labels = noted.belongs or self._known.get(noted.execution_id, _NOBODYS)
            line = line_of(
                noted.execution_id,
                noted.at,
                event_type=noted.type,
                ts=noted.ts,
                tenant=tenant,
                pipeline=pipeline,
                raw_data=noted.raw_data,
                labels=labels,
            )
            arguments += (noted.ts, line)
        await self._append.run(self._commands, (self._keys.activity(),), self._max_entries, *arguments)
        ended = [noted.execution_id for noted in batch if noted.type in TERMINAL_TYPES]
        for execution_id in ended:
            self._known.pop(execution_id, None)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        if ended and self._on_ended is not None:
            # If not now, a healer comes past.
            with suppress(BusUnavailableError):
                await self._on_ended(*ended)

    async def _look_up(self, execution_id: str) -> None:
        meta = self._keys.meta(execution_id)
        try:
            found = await self._commands.command("HMGET", meta, "tenant", "pipeline", "labels")
        except ReplyError as error:
            if not error.is_of_the_key:
                raise
            found = (None, None, None)
        *names, labels = found
        tenant, pipeline = (None if raw is None else raw.decode(errors="replace")[:128] for raw in names)
        self._known[execution_id] = (tenant, pipeline, read_labels(labels))

    def _lose(self, count: int, reason: str) -> None:
        if count:
            self._counters.add("activity_lost", count)
            logger.error("%d changes were not written to the activity stream: %s", count, reason)
