"""Blocking XREAD in groups: the fallback where CLIENT TRACKING is refused.

Each wake-up costs Redis and us O(streams listed), so a group is small; a group is one connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tailrace.bus.errors import BusClosedError, BusUnavailableError, ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.reading import RawEntry
from tailrace.bus.redis.commands import Commands
from tailrace.bus.tail.refused import RefusedKeys
from tailrace.bus.tail.watch import Listener, age_seconds

logger = logging.getLogger(__name__)

GROUP_KEYS: Final = 64
BLOCK_MS: Final = 1000
# Where a blocked connection cannot be woken, a new watch waits for the next round.
DEAF_BLOCK_MS: Final = 100
COUNT: Final = 128

OpenCommands = Callable[[], Awaitable[Commands]]


class BlockingWatch:
    __slots__ = ("_group", "active", "cursor", "key", "listener")

    def __init__(self, group: _Group, key: bytes, cursor: bytes, listener: Listener) -> None:
        self._group = group
        self.key = key
        self.cursor = cursor
        self.listener = listener
        self.active = True

    def suspend(self) -> None:
        self.active = False

    def resume(self, cursor: Cursor) -> None:
        self.cursor = cursor.encode()
        self.active = True
        self._group.nudge()

    def close(self) -> None:
        self.active = False
        self._group.remove(self)


class _Group:
    """Up to 64 streams, one connection, one task."""

    def __init__(self, open_commands: OpenCommands, shared: Commands, counters: Counters) -> None:
        self._open_commands = open_commands
        self._shared = shared
        self._counters = counters
        self._changed = asyncio.Event()
        self._client_id: int | None = None
        self._blocked = False
        self._nudges: set[asyncio.Task[None]] = set()
        self.watches: dict[bytes, BlockingWatch] = {}
        self._refused = RefusedKeys(counters, asyncio.get_running_loop().time)
        self.task = asyncio.create_task(self._run(), name="tail:group")

    def add(self, watch: BlockingWatch) -> None:
        self.watches[watch.key] = watch
        self.nudge()

    def remove(self, watch: BlockingWatch) -> None:
        if self.watches.get(watch.key) is watch:
            del self.watches[watch.key]
            self._refused.forget(watch.key)

    def nudge(self) -> None:
        """Make the group read again with what it watches now."""
        self._changed.set()
        if self._blocked and self._client_id is not None:
            task = asyncio.create_task(self._unblock(self._client_id))
            self._nudges.add(task)
            task.add_done_callback(self._nudges.discard)

    async def _unblock(self, client_id: int) -> None:
        try:
            await self._shared.command("CLIENT", "UNBLOCK", client_id)
        except BusUnavailableError as error:
            # It is read again in at most BLOCK_MS all the same.
            logger.debug("tail: could not wake a group: %s", error)

    async def _run(self) -> None:
        while True:
            try:
                commands = await self._open_commands()
            except BusUnavailableError as error:
                logger.warning("tail: a group cannot connect: %s", error)
                await asyncio.sleep(1.0)
                continue
            try:
                await self._read(commands)
            except BusClosedError:
                return
            except (BusUnavailableError, OSError) as error:
                self._counters.add("tail_reconnects")
                logger.warning("tail: a group lost its connection: %s", error)
                await asyncio.sleep(0.05)
            finally:
                await commands.aclose()
            self.disturb_all("reconnected")

    async def _read(self, commands: Commands) -> None:
        try:
            self._client_id = int(await commands.command("CLIENT", "ID"))
        except ReplyError:
            self._client_id = None
        block_ms = DEAF_BLOCK_MS if self._client_id is None else BLOCK_MS
        while True:
            self._changed.clear()
            wait_seconds = await self._read_refused(commands)
            watches = [watch for watch in self.watches.values() if watch.active and watch.key not in self._refused]
            if not watches:
                await self._until_changed(wait_seconds)
                continue
            self._blocked = True
            try:
                # Zero would be for ever.
                await self._read_turn(commands, watches, max(1, min(block_ms, int(wait_seconds * 1000))))
            except ReplyError as error:
                if not error.is_of_the_key:
                    raise
                self._blocked = False
                # One of them spoils it for all.
                for watch in watches:
                    await self._read_alone(commands, watch)
            finally:
                self._blocked = False

    async def _read_refused(self, commands: Commands) -> float:
        """Read each refused key whose time has come; gives how long the next is still to be left alone."""
        next_seconds = BLOCK_MS / 1000
        for watch in list(self.watches.values()) if self._refused else ():
            if watch.active and watch.key in self._refused:
                if not (wait_seconds := self._refused.wait_seconds(watch.key)):
                    await self._read_alone(commands, watch)
                    wait_seconds = self._refused.wait_seconds(watch.key)
                next_seconds = min(next_seconds, wait_seconds or next_seconds)
        return next_seconds

    async def _read_alone(self, commands: Commands, watch: BlockingWatch) -> None:
        if not watch.active:
            return
        try:
            await self._read_turn(commands, [watch])
        except ReplyError as error:
            if not error.is_of_the_key:
                raise
            self._refused.note(watch.key, error)
            self._disturb(watch, str(error))
        else:
            self._refused.forgive(watch.key)

    async def _until_changed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds if self._refused else None):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _read_turn(self, commands: Commands, watches: Sequence[BlockingWatch], block_ms: int = 0) -> None:
        turn = {watch.key: (watch, watch.cursor) for watch in watches}
        cursors = [cursor for _, cursor in turn.values()]
        block = ("BLOCK", block_ms) if block_ms else ()
        reply = await commands.command("XREAD", "COUNT", COUNT, *block, "STREAMS", *turn, *cursors)
        latest: bytes | None = None
        for key, entries in (reply or {}).items():
            watch, cursor = turn[key]
            # Suspended, or gone on from elsewhere while we read: what was found is not what follows any more.
            if watch.active and watch.cursor == cursor and entries:
                latest = watch.cursor = entries[-1][0]
                self._deliver(watch, entries)
        if latest is not None:
            self._counters.delivery_seconds.add(age_seconds(latest, time.time()))

    def _deliver(self, watch: BlockingWatch, entries: Sequence[RawEntry]) -> None:
        try:
            watch.listener.deliver(entries)
        except Exception:
            logger.exception("tail: a listener of %r failed", watch.key)
            self._counters.add("tail_listener_errors")
            self._disturb(watch, "listener failed")

    def _disturb(self, watch: BlockingWatch, reason: str) -> None:
        watch.suspend()
        try:
            watch.listener.disturbed(reason)
        except Exception:
            logger.exception("tail: a listener of %r failed", watch.key)

    def disturb_all(self, reason: str) -> None:
        for watch in list(self.watches.values()):
            self._disturb(watch, reason)


class BlockingTail:
    """Watches any number of streams, 64 a connection."""

    mode = "blocking"

    def __init__(self, open_commands: OpenCommands, shared: Commands, *, counters: Counters) -> None:
        self._open_commands = open_commands
        self._shared = shared
        self._counters = counters
        self._groups: list[_Group] = []
        self._closed = False

    async def start(self) -> None:
        """Nothing to do before the first watch."""

    def watch(self, key: str, cursor: Cursor, listener: Listener) -> BlockingWatch:
        if self._closed:
            raise BusClosedError("the tail is closed")
        raw = key.encode()
        group = next((g for g in self._groups if len(g.watches) < GROUP_KEYS and raw not in g.watches), None)
        if group is None:
            group = _Group(self._open_commands, self._shared, self._counters)
            self._groups.append(group)
        watch = BlockingWatch(group, raw, cursor.encode(), listener)
        group.add(watch)
        return watch

    async def aclose(self) -> None:
        self._closed = True
        tasks = [group.task for group in self._groups]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for group in self._groups:
            # Remaining watches must not wait for ever.
            group.disturb_all("closed")
        self._groups.clear()
