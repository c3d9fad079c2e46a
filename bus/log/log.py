"""The log of an execution: the only truth. Everything else is a cache of it, or a hint that it changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tailrace.bus.errors import (
    ExecutionClosedError,
    FenceStaleError,
    LogExhaustedError,
    ReplyError,
    TransitionRefusedError,
)
from tailrace.bus.model.codec import drop
from tailrace.bus.model.continuity import Extent, Numbering, gap_at, is_proved, number_at, resume_point
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START, Cursor, from_id
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import MAX_EVENT_BYTES, TERMINAL_TYPES
from tailrace.bus.model.fence import token_of
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.lifecycle import as_lua
from tailrace.bus.model.reading import Page, RawEntry, read_proved
from tailrace.bus.model.retention import Retention
from tailrace.bus.model.state import STATE_FIELDS, State, parse_state
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script

PAGE_ENTRIES: Final = 512
# A log that is deleted, written or trimmed between two commands is looked at again, and not for ever.
READ_ATTEMPTS: Final = 3
# How long a mark stays of which nothing but its replication is wanted.
MARK_MS: Final = 10_000
_TERMINAL_BYTES: Final = frozenset(name.encode() for name in TERMINAL_TYPES)
# What a later append needs to know of an execution is 11 arguments and a width per event; Redis allows a million.
MAX_BATCH_EVENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Appended:
    """Ids of a batch are ``ms`` with consecutive numbers up to ``n``; ``written`` of them were new."""

    ms: int
    n: int
    written: int

    @property
    def last(self) -> Cursor:
        return Cursor(self.ms, self.n)


def append_script() -> Script:
    return Script.load("append", transitions=as_lua())


class Log:
    """Appends to and reads from the logs of all executions."""

    # False for the activity: it has no state, and its entries are rendered differently.
    of_executions = True

    def __init__(
        self,
        commands: Commands,
        keys: Keys,
        *,
        counters: Counters,
        retention: Retention,
        max_event_bytes: int = MAX_EVENT_BYTES,
        replicated: Commands | None = None,
    ) -> None:
        """``replicated`` are commands that return when replicas have what they wrote; appends go there then."""
        self.keys = keys
        self.counters = counters
        self.max_event_bytes = max_event_bytes
        self.commands = commands
        self._replicated = replicated
        self._retention = retention
        self._append = append_script()
        # Called after each append that had events of the life cycle among them; must neither wait nor raise.
        self.on_lifecycle: Callable[[str, Sequence[Sequence[bytes]], Appended], None] | None = None

    async def append(
        self,
        execution_id: str,
        events: Sequence[Sequence[bytes]],
        *,
        producer: str = "",
        seq: int = 0,
        fence: int | None = None,
    ) -> Appended:
        """Append a batch in one step, exactly once for a (producer, seq).

        ``events`` are fields as codec.encode lays them out; ``seq`` is the number of the first of them within its
        producer, rising by one an event from 1 on. Only the last may be terminal.

        Raises ExecutionClosedError, FenceStaleError, TransitionRefusedError, LogExhaustedError; and
        BusUnavailableError, after which the same call may be made again as long as it has a producer.
        """
        if not events or len(events) > MAX_BATCH_EVENTS:
            raise ValueError(f"a batch has 1 to {MAX_BATCH_EVENTS} events, this one {len(events)}")
        arguments: list[bytes | str | int] = []
        for event in events:
            arguments.append(len(event))
            arguments.extend(event)
        lifecycle = [event[1] for event in events if event[1].startswith(b"execution.")]
        if lifecycle and any(event[1] in _TERMINAL_BYTES for event in events[:-1]):
            raise ValueError("a terminal event can only be the last of a batch")
        kept = self._retention
        began = time.perf_counter()
        try:
            ms, n, written = await self._append.run(
                self._replicated or self.commands,
                self.keys.of_execution(execution_id),
                producer,
                seq,
                token_of(fence),
                kept.max_entries,
                kept.max_bytes,
                kept.live_seconds,
                kept.ended_seconds,
                kept.ended_state_seconds,
                len(events),
                "1" if lifecycle else "",
                *arguments,
            )
        except ReplyError as error:
            raise _refusal(error, execution_id) from None
        self.counters.append_seconds.add(time.perf_counter() - began)
        self.counters.add("appended_events", written)
        if written < len(events):
            self.counters.add("append_duplicates", len(events) - written)
            if self._replicated is not None:
                # Nothing of it was written just now, but what is written behind it is replicated behind it.
                await self._replicated.command("SET", self.keys.replication_mark(execution_id), 1, "PX", MARK_MS)
        done = Appended(int(ms), int(n), int(written))
        if lifecycle and self.on_lifecycle is not None:
            self.on_lifecycle(execution_id, events, done)
        return done

    async def read(self, execution_id: str, position: Numbering, count: int = PAGE_ENTRIES) -> Page:
        """Read what follows a position, with the proof that nothing is missing, or the gap.

        The read includes the cursor itself: its presence proves continuity at no extra cost, and only where it is
        absent is the log asked what it still holds.
        """
        after = position.cursor
        raw, doubts = await self._look(execution_id, after, count + 1)
        first = _first_of(raw)
        gap: Gap | None = None
        if doubts is not None:
            from_start = after == START and position.number is None
            gap = None if from_start else gap_at(after, first, doubts.extent, known_entries=doubts.known_entries)
        elif first == after:
            raw = raw[1:]
        more = len(raw) >= count
        raw = raw[:count]
        if gap is not None:
            self.counters.add("gaps")
            position = Numbering(resume_point(gap), None)
        items, following = read_proved(position, raw, self.max_event_bytes)
        if position.origin is not None and any(isinstance(item, Gap) for item in items):
            number = await self._number_at(execution_id, position.origin)
            if number != position.origin.n:
                # Redis had numbered that one, and no publisher: no hole can be told from it.
                items, following = read_proved(Numbering(after, number), raw, self.max_event_bytes)
        if gap is not None:
            items.insert(0, gap)
        # After the entries: an ending that is among them is then known.
        state = await self.state(execution_id)
        if state is None or state.terminal is None:
            return Page(self._settle_endings(items, None), following, more)
        terminal = state.terminal
        last = Numbering.after(terminal)
        if after >= terminal:
            # What other programs wrote behind the end is not read, so nothing is missing there either.
            told: list[Entry | Gap] = [gap] if gap is not None and after > terminal else []
            return Page(told, last, ended=True, status=state.status)
        items = self._settle_endings(items, terminal)
        if raw and from_id(raw[-1][0]) >= terminal:
            return Page(items, last, ended=True, status=state.status)
        if not raw:
            more = await self.latest(execution_id) > following.cursor
            if not more:
                return Page(items, last, ended=True, status=state.status)
        return Page(items, following, more)

    async def extent(self, execution_id: str) -> Extent:
        try:
            info = await self.commands.command("XINFO", "STREAM", self.keys.log(execution_id))
        except ReplyError as error:
            if "no such key" not in str(error):
                raise
            return Extent(None, None, 0, 0)
        first, last = info[b"first-entry"], info[b"last-entry"]
        return Extent(
            earliest=from_id(first[0]) if first else None,
            latest=from_id(last[0]) if last else None,
            length=int(info[b"length"]),
            entries_added=int(info.get(b"entries-added", info[b"length"])),
        )

    async def latest(self, execution_id: str) -> Cursor:
        """Snapshot the head once; START while there is no log."""
        raw = await self.commands.command("XREVRANGE", self.keys.log(execution_id), "+", "-", "COUNT", 1)
        return from_id(raw[0][0]) if raw else START

    async def state(self, execution_id: str) -> State | None:
        """The durable state; None when there is none (a log may exist all the same, written by other programs)."""
        values = await self.commands.command("HMGET", self.keys.meta(execution_id), *STATE_FIELDS)
        if all(value is None for value in values):
            return None
        return parse_state(execution_id, values)

    async def found(self, execution_id: str) -> tuple[State | None, bool]:
        """Its state, and whether there is such an execution: one without a state may be there, too.

        One that comes to be in between is read again: its state says whose it is. Raises as ``state``.
        """
        state = await self.state(execution_id)
        if state is not None:
            return state, True
        if not await self.exists(execution_id):
            return None, False
        return await self.state(execution_id), True

    async def exists(self, execution_id: str) -> bool:
        """Whether there is a log or a state."""
        return bool(await self.commands.command("EXISTS", self.keys.log(execution_id), self.keys.meta(execution_id)))

    async def _look(self, execution_id: str, after: Cursor, count: int) -> tuple[list[RawEntry], _Doubts | None]:
        """Read from a cursor on, and what else is known of the log where that proves nothing, at one time."""
        doubts: _Doubts | None = None
        for _ in range(READ_ATTEMPTS):
            raw = await self._range(execution_id, after, count)
            first = _first_of(raw)
            if is_proved(after, first) is not None:
                return raw, None
            extent, known_entries = await asyncio.gather(self.extent(execution_id), self._known_entries(execution_id))
            doubts = _Doubts(extent, known_entries)
            if not extent.changed_since(after, first):
                break
        return raw, doubts

    async def _range(self, execution_id: str, start: Cursor, count: int) -> list[RawEntry]:
        entries: list[RawEntry] = await self.commands.command(
            "XRANGE", self.keys.log(execution_id), "-" if start == START else str(start), "+", "COUNT", count
        )
        return entries

    async def _number_at(self, execution_id: str, cursor: Cursor) -> int | None:
        raw = await self._range(execution_id, Cursor(cursor.ms, 0), PAGE_ENTRIES)
        of_its_ms = [from_id(entry_id) for entry_id, _ in raw]
        # One that was trimmed was proved by its successor, so its number stands.
        return number_at(cursor, of_its_ms) if cursor in of_its_ms else cursor.n

    async def _known_entries(self, execution_id: str) -> int:
        state = await self.state(execution_id)
        return state.entries if state is not None else 0

    def _settle_endings(self, items: list[Entry | Gap], terminal: Cursor | None) -> list[Entry | Gap]:
        """Only the entry that closed the log ends it, and is its last; another program's claim is shown as dropped."""
        settled: list[Entry | Gap] = []
        for item in items:
            if isinstance(item, Entry) and item.cursor != terminal:
                if terminal is not None and item.cursor > terminal:
                    break
                if item.is_terminal:
                    self.counters.add("dropped_entries")
                    settled.append(drop(item, "not_the_ending"))
                    continue
            settled.append(item)
        return settled


@dataclass(frozen=True, slots=True)
class _Doubts:
    """What decides where the ids alone prove nothing."""

    extent: Extent
    known_entries: int


def _first_of(raw: Sequence[RawEntry]) -> Cursor | None:
    return from_id(raw[0][0]) if raw else None


def _refusal(error: ReplyError, execution_id: str) -> Exception:
    word, _, detail = str(error).partition(" ")
    match word:
        case "CLOSED":
            return ExecutionClosedError(execution_id, detail)
        case "FENCED":
            return FenceStaleError(execution_id)
        case "ILLEGAL":
            status, _, event_type = detail.partition(" ")
            return TransitionRefusedError(execution_id, "unknown" if status == "none" else status, event_type)
        case "EXHAUSTED":
            return LogExhaustedError(
                f"execution {execution_id}: entry {detail} of another program leaves no next id; use another execution"
            )
        case "PRODUCERS":
            return LogExhaustedError(f"execution {execution_id} has reached the limit of {detail} producers")
        case "UNANSWERED":
            return LogExhaustedError(
                f"execution {execution_id} has {detail} requests that its owner has not answered; "
                "send more when it has, or cancel it"
            )
        case _:
            return error
