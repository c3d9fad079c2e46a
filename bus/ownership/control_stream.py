"""The control stream of an execution, as its owner reads it: in order, each request once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from tailrace.bus.errors import BusClosedError, BusUnavailableError, InvalidEventError
from tailrace.bus.model.control_request import ANSWER_TYPES, ControlRequest, read_request
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START, from_id, parse
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.model.retry import Backoff
from tailrace.bus.redis.commands import Commands
from tailrace.bus.tail.watch import Tail, Watch

logger = logging.getLogger(__name__)

PAGE_ENTRIES: Final = 128
LOG_PAGE_ENTRIES: Final = 512
# More than the control stream keeps: what was forgotten here is not there to be read a second time.
MAX_SEEN: Final = 4096


_ANSWERS: Final = frozenset(name.encode() for name in ANSWER_TYPES)


class ControlStream:
    """Reads all of it again whenever it is not certain that nothing was missed, and leaves out what is known."""

    def __init__(
        self,
        commands: Commands,
        keys: Keys,
        execution_id: str,
        take: Callable[[ControlRequest], None],
        *,
        counters: Counters,
        limit_bytes: int,
    ) -> None:
        """``take`` is called for each request, between two turns of the loop, and must not block."""
        self._commands = commands
        self._key = keys.control(execution_id)
        self._log_key = keys.log(execution_id)
        self._take = take
        self._counters = counters
        self._limit_bytes = limit_bytes
        self._seen: dict[str, None] = {}
        self._cursor = START
        self._watch: Watch | None = None
        self._reading: asyncio.Task[None] | None = None
        self._dropped = START
        self._complained = False
        self._closed = False

    async def read(self) -> None:
        """Take everything that is there and was not taken yet. Raises BusUnavailableError."""
        start = "-"
        cursor = START
        while True:
            raw: list[RawEntry] = await self._commands.command("XRANGE", self._key, start, "+", "COUNT", PAGE_ENTRIES)
            for entry in raw:
                self._read(entry)
            if raw:
                cursor = from_id(raw[-1][0])
            if len(raw) < PAGE_ENTRIES:
                break
            start = f"({cursor}"
        # Not kept if it went down: a log that was deleted, or a failover, begins anew below where we stood.
        self._cursor = cursor

    async def answered(self, requests: Sequence[ControlRequest]) -> set[str]:
        """Which of these, given in their order, have their answer in the log; ids.

        One that was trimmed from the log counts as answered: its answer stood close behind it.
        Raises BusUnavailableError.
        """
        answered: set[str] = set()
        start = requests[0].id if requests else None
        while start is not None:
            raw: list[RawEntry] = await self._commands.command(
                "XRANGE", self._log_key, start, "+", "COUNT", LOG_PAGE_ENTRIES
            )
            if raw and not start.startswith("("):
                earliest = from_id(raw[0][0])
                answered |= {request.id for request in requests if parse(request.id) < earliest}
            answered.update(request for entry in raw if (request := _answered_by(entry)) is not None)
            start = f"({raw[-1][0].decode()}" if len(raw) == LOG_PAGE_ENTRIES else None
        return answered

    def watch(self, tail: Tail) -> None:
        """Take what comes from now on, after a ``read``. Raises BusClosedError."""
        self._watch = tail.watch(self._key, self._cursor, self)

    def look_again(self) -> None:
        """Read all of it once more, soon."""
        if self._reading is None and not self._closed:
            self._reading = asyncio.create_task(self._read_again(), name=f"requests:{self._key}")

    def close(self) -> None:
        self._closed = True
        if self._watch is not None:
            self._watch.close()
        if self._reading is not None:
            self._reading.cancel()

    # bus.tail.watch.Listener

    def deliver(self, entries: Sequence[RawEntry]) -> None:
        if not entries:
            # It changed and has nothing new here: perhaps it was deleted and begins anew.
            self.disturbed("nothing new")
        elif self._reading is None:
            for entry in entries:
                self._read(entry)
                self._cursor = from_id(entry[0])

    def disturbed(self, reason: str) -> None:
        del reason  # told once by the Tail, for all
        if self._watch is not None:
            self._watch.suspend()
        self.look_again()

    async def _read_again(self) -> None:
        backoff, attempt = Backoff(), 0
        while True:
            try:
                await self.read()
            except BusClosedError:
                return
            except BusUnavailableError as error:
                # Also where the key is of another type: no request can be made until that is mended.
                attempt += 1
                logger.debug("%s cannot be read: %s", self._key, error)
                await asyncio.sleep(backoff.delay_seconds(attempt, random.random))
            else:
                break
        self._reading = None
        if self._watch is not None and not self._closed:
            self._watch.resume(self._cursor)

    def _read(self, raw: RawEntry) -> None:
        try:
            request = read_request(raw, limit_bytes=self._limit_bytes)
        except InvalidEventError as error:
            self._drop(raw, error)
            return
        if request.id in self._seen:
            return
        self._seen[request.id] = None
        if len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        self._take(request)

    def _drop(self, raw: RawEntry, error: InvalidEventError) -> None:
        """A stranger wrote it: those who may ask do so through the log."""
        at = from_id(raw[0])
        if at <= self._dropped:
            return
        self._dropped = at
        self._counters.add("control_dropped")
        if not self._complained:
            self._complained = True
            logger.warning("%s: dropped an entry that is not a control request (logged once): %s", self._key, error)


def _answered_by(raw: RawEntry) -> str | None:
    fields: Sequence[bytes] = raw[1] or ()
    if len(fields) < 2 or fields[1] not in _ANSWERS:  # noqa: PLR2004 - append.lua is given the type first
        return None
    given: dict[bytes, Any] = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        request = orjson.loads(given.get(b"d", b"null"))["request"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None
    return request if isinstance(request, str) else None
