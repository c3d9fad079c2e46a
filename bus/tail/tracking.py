"""CLIENT TRACKING as epoll for streams.

Reading a stream with tracking on asks Redis for one invalidation message when its key next changes.
The key is then ready; the next turn reads all ready keys with one XREAD, which arms them again. Messages coalesce while
we are busy, so batches grow with load by themselves.

Rule: https://redis.io/docs/latest/develop/reference/client-side-caching/ (default mode, RESP3 push).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from tailrace.bus.errors import BusClosedError, ConnectionLostError, ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.redis.connection import Connection, Dial
from tailrace.bus.redis.supervised import SupervisedConnection
from tailrace.bus.tail.pace import Pace
from tailrace.bus.tail.refused import RefusedKeys
from tailrace.bus.tail.watch import Listener, age_seconds

logger = logging.getLogger(__name__)

# One turn reads at most this many streams, and at most this many entries of them all: a turn stays a few
# milliseconds, so that no watch waits long behind a backlog.
TURN_KEYS: Final = 256
TURN_ENTRIES: Final = 1024
TURN_BYTES: Final = 4 * 1024 * 1024
MIN_COUNT: Final = 4
MAX_COUNT: Final = 512
# What lies behind a cursor from which nothing was read yet may be anything.
FIRST_COUNT: Final = 32


class TrackingWatch:
    __slots__ = ("_tail", "active", "arming", "asked", "cursor", "key", "listener", "sibling")

    def __init__(self, tail: TrackingTail, key: bytes, cursor: bytes, listener: Listener) -> None:
        self._tail = tail
        self.key = key
        self.cursor = cursor
        # From where it is being read, or was read last.
        self.asked = cursor
        self.listener = listener
        self.active = True
        # Another watch of the same key; nearly always there is none.
        self.sibling: TrackingWatch | None = None
        # The next reading is made to be told of changes, not because there was one: finding nothing is no news.
        self.arming = True

    def suspend(self) -> None:
        self.active = False
        self.arming = True

    def resume(self, cursor: Cursor) -> None:
        self.cursor = cursor.encode()
        self.active = True
        self._tail.make_ready(self)

    def close(self) -> None:
        self.active = False
        self._tail.forget(self)


# One key that cannot be read, or not here: those who watch it find out why.
_OF_THE_KEY: Final = frozenset({"WRONGTYPE", "NOPERM", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})


class TrackingTail:
    """Watches any number of streams over one connection."""

    mode = "tracking"

    def __init__(self, dial: Dial, *, counters: Counters, alone: bool = False) -> None:
        """Watch over connections that ``dial`` makes; ``alone`` reads each stream with a command of its own."""
        self._alone = alone
        self._counters = counters
        # By key, the first of those who watch it.
        self._watches: dict[bytes, TrackingWatch] = {}
        # Ordered: who became ready first is read first, who had more than its share goes to the end.
        self._ready: dict[TrackingWatch, None] = {}
        self._in_flight = 0
        self._scheduled = False
        self._connection: Connection | None = None
        self._entries_a_turn = TURN_ENTRIES
        self._count_most = MAX_COUNT
        self._line = SupervisedConnection(
            dial, counters=counters, name="tail", on_connect=self._connected, on_push=self._pushed
        )
        self._started = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._pace = Pace()
        self._refused = RefusedKeys(counters, self._loop.time)
        # When a refused key is read again; it is not read before.
        self._retries: dict[bytes, asyncio.TimerHandle] = {}

    async def start(self) -> None:
        """Connect and switch tracking on. Raises BusUnavailableError, ReplyError where tracking is refused."""
        await self._line.connect()
        await self._line.command("CLIENT", "TRACKING", "ON")
        self._started = True

    @property
    def connected(self) -> bool:
        return self._line.connected

    async def aclose(self) -> None:
        self._closed = True
        await self._line.aclose()
        for retry in self._retries.values():
            retry.cancel()
        self._retries.clear()
        # Remaining watches must not wait for ever.
        self._disturb_all("closed")
        self._watches.clear()

    def watch(self, key: str, cursor: Cursor, listener: Listener) -> TrackingWatch:
        if self._closed:
            raise BusClosedError("the tail is closed")
        watch = TrackingWatch(self, key.encode(), cursor.encode(), listener)
        watch.sibling = self._watches.get(watch.key)
        self._watches[watch.key] = watch
        self.make_ready(watch)
        return watch

    def forget(self, watch: TrackingWatch) -> None:
        self._ready.pop(watch, None)
        siblings = [each for each in self._of_key(watch.key) if each is not watch]
        # Redis may still send one invalidation for it; without a watcher then, it is not read again.
        self._watches.pop(watch.key, None)
        for each in siblings:
            each.sibling = self._watches.get(each.key)
            self._watches[each.key] = each
        if self._refused and not siblings:
            self._refused.forget(watch.key)
            if (retry := self._retries.pop(watch.key, None)) is not None:
                retry.cancel()

    def _of_key(self, key: bytes) -> Iterator[TrackingWatch]:
        watch = self._watches.get(key)
        while watch is not None:
            yield watch
            watch = watch.sibling

    def make_ready(self, watch: TrackingWatch) -> None:
        """Read from a new cursor; a refused key not before it is its time."""
        if watch.key in self._retries:
            return
        self._ready[watch] = None
        self._count_most = FIRST_COUNT
        self._schedule()

    def _schedule(self) -> None:
        """Read soon: not at once, since further messages of the same packet still join the turn."""
        if self._scheduled or self._in_flight:
            return
        self._scheduled = True
        wait_seconds = self._pace.wait_seconds(self._loop.time())
        if wait_seconds:
            self._loop.call_later(wait_seconds, self._read_turn)
        else:
            self._loop.call_soon(self._read_turn)

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        self._in_flight = 0
        if self._started:
            self._counters.add("tail_reconnects")
            connection.send("CLIENT", "TRACKING", "ON").add_done_callback(self._tracking_answered)
            self._disturb_all("reconnected")

    def _tracking_answered(self, future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, ReplyError) and self._connection is not None:
            # A proxy or another server than before: without tracking this connection would never hear anything.
            logger.error("tail: CLIENT TRACKING refused: %s", error)
            self._counters.add("tail_tracking_refused")
            self._connection.close(f"CLIENT TRACKING refused: {error}")

    def _disturb_all(self, reason: str) -> None:
        self._ready.clear()
        for watch in [watch for key in self._watches for watch in self._of_key(key)]:
            self._disturb(watch, reason)

    def _disturb(self, watch: TrackingWatch, reason: str) -> None:
        watch.suspend()
        try:
            watch.listener.disturbed(reason)
        except Exception:
            logger.exception("tail: a listener of %r failed", watch.key)

    def _pushed(self, push: list[Any]) -> None:
        if push[0] != b"invalidate":
            return
        if push[1] is None:
            # FLUSHALL or FLUSHDB: no key is named.
            self._counters.add("tail_flushes")
            self._disturb_all("flushed")
            return
        watches, ready, retries = self._watches, self._ready, self._retries
        for key in push[1]:
            if retries and key in retries:
                continue
            watch = watches.get(key)
            while watch is not None:
                watch.arming = False
                ready[watch] = None
                watch = watch.sibling
        if ready and not self._scheduled and not self._in_flight:
            self._schedule()

    def _read_turn(self) -> None:
        self._scheduled = False
        connection = self._connection
        if self._in_flight or connection is None or connection.lost.done() or self._closed:
            return
        turn = self._take_turn()
        if not turn:
            return
        self._pace.started(self._loop.time())
        count = self._count(len(turn))
        self._count_most = MAX_COUNT
        if self._alone:
            # Keys of different slots cannot share a command, not even on the node that has them all.
            self._read_one_by_one(connection, turn, count)
            return
        if self._refused and (suspects := {key: turn.pop(key) for key in list(turn) if key in self._refused}):
            self._read_one_by_one(connection, suspects, count)
            if not turn:
                return
        self._read(connection, turn, count)

    def _read(self, connection: Connection, watches: dict[bytes, TrackingWatch], count: int) -> None:
        self._in_flight += 1
        cursors = [watch.asked for watch in watches.values()]
        answer = partial(self._answered, connection, watches, count, connection.received_bytes)
        connection.request(answer, "XREAD", "COUNT", count, "STREAMS", *watches, *cursors)

    def _read_one_by_one(self, connection: Connection, watches: dict[bytes, TrackingWatch], count: int) -> None:
        for key, watch in watches.items():
            self._read(connection, {key: watch}, count)

    def _take_turn(self) -> dict[bytes, TrackingWatch]:
        ready = self._ready
        turn: dict[bytes, TrackingWatch] = {}
        idle = []
        for watch in ready:
            if not watch.active:
                idle.append(watch)
            # A second watch of the same key has its own cursor and waits for the next turn.
            elif watch.key not in turn:
                turn[watch.key] = watch
                watch.asked = watch.cursor
                if len(turn) == TURN_KEYS:
                    break
        if len(turn) == len(ready):
            ready.clear()
        else:
            for watch in (*turn.values(), *idle):
                del ready[watch]
        return turn

    def _count(self, keys: int) -> int:
        return max(MIN_COUNT, min(self._count_most, self._entries_a_turn // keys))

    def _answered(
        self, connection: Connection, turn: dict[bytes, TrackingWatch], count: int, received: int, reply: Any
    ) -> None:
        if connection is not self._connection:
            return
        self._in_flight -= 1
        if isinstance(reply, ReplyError):
            self._refuse(connection, turn, count, reply)
        elif not isinstance(reply, ConnectionLostError):
            self._dispatch(turn, reply or {}, count)
            self._bound_bytes(connection.received_bytes - received)
        if self._ready:
            self._schedule()

    def _dispatch(self, turn: dict[bytes, TrackingWatch], streams: dict[bytes, list[RawEntry]], count: int) -> None:
        self._pace.took(sum(map(len, streams.values())))
        if self._refused:
            self._forgive(turn)
        latest: bytes | None = None
        for key, watch in turn.items():
            entries = streams.get(key, ())
            if not watch.active or watch.cursor is not watch.asked:
                # Suspended, or gone on from elsewhere while we read: what was found is not what follows any more.
                continue
            if entries:
                latest = watch.cursor = entries[-1][0]
                if len(entries) >= count:
                    self._ready[watch] = None
            elif watch.arming:
                watch.arming = False
                continue
            watch.arming = False
            try:
                watch.listener.deliver(entries)
            except Exception:
                logger.exception("tail: a listener of %r failed", key)
                self._counters.add("tail_listener_errors")
                self._disturb(watch, "listener failed")
        if latest is not None:
            self._counters.delivery_seconds.add(age_seconds(latest, time.time()))

    def _bound_bytes(self, size: int) -> None:
        """Read a backlog of large events in smaller bites: at once in so much smaller ones, however large they were."""
        if size > TURN_BYTES:
            self._entries_a_turn = max(MIN_COUNT, self._entries_a_turn * TURN_BYTES // size)
        elif self._entries_a_turn < TURN_ENTRIES:
            self._entries_a_turn = min(TURN_ENTRIES, self._entries_a_turn * 2)

    def _refuse(self, connection: Connection, turn: dict[bytes, TrackingWatch], count: int, error: ReplyError) -> None:
        if error.code not in _OF_THE_KEY:
            self._counters.add("tail_refusals")
            connection.close(f"XREAD refused: {error}")
        elif len(turn) > 1:
            # One of them spoils it for all.
            self._read_one_by_one(connection, turn, count)
        else:
            ((key, watch),) = turn.items()
            if not error.is_of_the_key:
                self._disturb(watch, str(error))
                return
            seconds = self._refused.note(key, error)
            self._retries[key] = self._loop.call_later(seconds, self._retry, key)
            for each in list(self._of_key(key)):
                self._ready.pop(each, None)
                self._disturb(each, str(error))

    def _retry(self, key: bytes) -> None:
        del self._retries[key]
        for watch in self._of_key(key):
            if watch.active:
                self.make_ready(watch)

    def _forgive(self, turn: dict[bytes, TrackingWatch]) -> None:
        for key in turn:
            self._refused.forgive(key)
