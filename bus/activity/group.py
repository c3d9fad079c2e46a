"""Readers that share the activity: each change is one reader's, who holds it until it is done with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tailrace.bus.activity.change import MAX_CHANGE_BYTES, Change
from tailrace.bus.model.codec import decode
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START, Cursor, from_id
from tailrace.bus.model.entry import Gap
from tailrace.bus.model.event import check_name
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.consumer_group import ConsumerGroup
from tailrace.bus.redis.script import Script
from tailrace.bus.tail.watch import Tail

logger = logging.getLogger(__name__)

CLAIM_STRETCHES: Final = 20


@dataclass(frozen=True, slots=True)
class Held:
    """A change in the hands of one reader; ``change`` is None for an unreadable entry of another program."""

    entry_id: str
    change: Change | None


class ActivityGroup(ConsumerGroup):
    """A consumer group over the activity stream."""

    def __init__(
        self,
        commands: Commands,
        keys: Keys,
        name: str,
        *,
        counters: Counters,
        open_tail: Callable[[], Awaitable[Tail]],
    ) -> None:
        super().__init__(commands, keys.activity(), check_name(name, field="group"))
        self.name = name
        self._counters = counters
        self._open_tail = open_tail
        self._take = Script.load("activity_take")
        self._searched = b"0-0"
        # What was trimmed before the group came to it, until somebody has told of it.
        self.missed: Gap | None = None

    async def open_since(self, since: Literal["start", "now"] = "start") -> None:
        """Make sure there is the group; a new one sees all that the activity still holds, or what comes from now on."""
        await self.open("0" if since == "start" else "$")

    async def take(self, consumer: str, count: int) -> list[Held]:
        """Take changes that no reader of the group had yet; nothing when there are none.

        What was trimmed before the group came to it is counted as ``activity_gaps``, told in the log, and ``missed``.
        Raises BusUnavailableError; ReplyError with code NOGROUP when the group was not opened, or was deleted.
        """
        last, raw = await self._take.run(self._commands, (self._key,), self.name, consumer, count)
        if raw and _is_gap(from_id(last), from_id(raw[0][0])):
            self._counters.add("activity_gaps")
            logger.error("group %s: changes after %s were trimmed before it read them", self.name, last.decode())
            self.missed = Gap(from_id(last), from_id(raw[0][0]), from_id(raw[-1][0]), "trimmed")
        return [_held(entry) for entry in raw]

    async def claim_held(self, consumer: str, *, idle_seconds: float, count: int) -> list[Held]:
        """Take over what readers hold that have not renewed it for so long.

        Looks at some stretches of what is held, and goes on from there the next time.
        """
        for _ in range(CLAIM_STRETCHES):
            self._searched, raw = await self.claim(
                consumer, idle_seconds=idle_seconds, start=self._searched, count=count
            )
            if raw or self._searched == b"0-0":
                break
        return [_held(entry) for entry in raw]

    async def watch(self) -> GroupReadiness:
        """Learn when there may be something to take. Raises BusUnavailableError, BusClosedError."""
        tail = await self._open_tail()
        raw = await self._commands.command("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        return GroupReadiness(tail, self._key, from_id(raw[0][0]) if raw else START)


class GroupReadiness:
    """Set when the stream has changed; wait for ``ready``, clear it, then take until there is nothing."""

    def __init__(self, tail: Tail, key: str, head: Cursor) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self._head = head
        self._watch = tail.watch(key, head, self)

    def close(self) -> None:
        self._watch.close()

    # bus.tail.watch.Listener

    def deliver(self, entries: Sequence[RawEntry]) -> None:
        if entries:
            self._head = from_id(entries[-1][0])
        self.ready.set()

    def disturbed(self, reason: str) -> None:
        self.ready.set()
        if reason != "closed":
            self._watch.resume(self._head)


def _held(raw: RawEntry) -> Held:
    entry_id, fields = raw
    return Held(entry_id.decode(), Change.of(decode(entry_id, fields, limit_bytes=MAX_CHANGE_BYTES)))


def _is_gap(last: Cursor, first: Cursor) -> bool:
    # A stranger's entry has an n of 0: nothing can be told beside it.
    return bool(first.n) and (last == START or bool(last.n)) and first.n > last.n + 1
