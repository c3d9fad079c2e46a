"""One reader of a group that follows all executions: each of them is one reader's, from its beginning to its end.

The activity says which executions there are. A reader takes a change, opens the group's bookmark in that execution, and
follows the log from there. It holds the change until the log has been read to its end, so that at any time something
in the group's hands stands for every execution that is not done. Should the reader die, another claims what it held.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, Literal

from tailrace.bus.activity import Held
from tailrace.bus.activity.bookmark import Bookmarks
from tailrace.bus.bus import Bus
from tailrace.bus.errors import (
    BookmarkHeldError,
    BookmarkLostError,
    BookmarkReadError,
    BusClosedError,
    BusError,
    BusUnavailableError,
    ReplyError,
)
from tailrace.bus.model.cursor import START
from tailrace.bus.model.event import TERMINAL_TYPES
from tailrace.bus.model.retry import Backoff
from tailrace.workers.handlers.delivery import Delivery
from tailrace.workers.handlers.reading import Reading

logger = logging.getLogger(__name__)

MAX_EXECUTIONS: Final = 1000
TAKE_COUNT: Final = 64
# How often it is noted how far one has come: what a crash makes come again.
SAVE_SECONDS: Final = 0.5
# How often changes of lost readers are looked for.
CLAIM_SECONDS: Final = 1.0
# Within so long handlers under way may end when the reader is told to stop.
STOPPING_SECONDS: Final = 10.0
# After this time without events, check whether the execution still exists.
GONE_SECONDS: Final = 60.0


class GroupReader:
    def __init__(
        self,
        bus: Bus,
        group: str,
        handle: Callable[[Delivery], Awaitable[None]],
        *,
        since: Literal["start", "now"] = "start",
        max_executions: int = MAX_EXECUTIONS,
    ) -> None:
        self.name = f"{bus.name}-{uuid.uuid4().hex[:6]}"
        self._bus = bus
        self._handle = handle
        self._since: Literal["start", "now"] = since
        self._max_executions = max_executions
        self._lease_seconds = bus.settings.lease_seconds
        self._group = bus.activity.group(group)
        self._bookmarks = Bookmarks(
            bus.commands,
            bus.keys,
            bus.settings.retention,
            group=group,
            reader=self.name,
            lease_seconds=self._lease_seconds,
        )
        self._readings: dict[str, Reading] = {}
        self._done: list[str] = []
        # Readings that were given up, by execution, whose handlers still clean up.
        self._leaving: dict[str, asyncio.Task[None]] = {}
        # Set once Redis was away: it may have lost how far the group has come.
        self._interrupted = False
        self._room = asyncio.Event()
        self._next_claim = 0.0

    async def run(self) -> None:
        """Until cancelled; then what is being handled may end. Raises BusClosedError."""
        keeping = asyncio.create_task(self._keep(), name="handlers:keep")
        try:
            await self._take_all()
        finally:
            readings = list(self._readings.values())
            for reading in readings:
                reading.stop()
            keeping.cancel()
            await asyncio.wait([keeping])
            await self._stop(readings)

    async def _take_all(self) -> None:
        backoff, attempt, since = Backoff(), 0, self._since
        while True:
            try:
                await self._group.open_since(since)
                # Whenever it is opened anew, it was lost, and what came meanwhile is still to be handled.
                since = "start"
                readiness = await self._group.watch()
                try:
                    while True:
                        readiness.ready.clear()
                        await self._take()
                        attempt = 0
                        # Nothing tells of changes that a lost reader holds: look, every now and then.
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(CLAIM_SECONDS):
                                await readiness.ready.wait()
                finally:
                    readiness.close()
            except BusUnavailableError as error:
                # Away; or flushed, and the group with it.
                self._interrupted = True
                attempt += 1
                self._bus.counters.add("handler_outages")
                logger.warning("group %s: %s; retrying", self._group.name, error)
                await asyncio.sleep(backoff.delay_seconds(attempt, random.random))

    async def _take(self) -> None:
        """Take until there is nothing left, waiting for room."""
        while True:
            while len(self._readings) >= self._max_executions:
                self._room.clear()
                await self._room.wait()
            count = min(TAKE_COUNT, self._max_executions - len(self._readings))
            claimed = await self._claim(count)
            taken = claimed or await self._group.take(self.name, count)
            if self._group.missed is not None:
                # Of no execution, because nobody knows any more which they were.
                missed, self._group.missed = self._group.missed, None
                await self._handle(Delivery.of("", missed))
            if not taken:
                return
            for held in taken:
                await self._begin(held, claimed=bool(claimed))

    async def _claim(self, count: int) -> list[Held]:
        now = asyncio.get_running_loop().time()
        if now < self._next_claim:
            return []
        taken = await self._group.claim_held(self.name, idle_seconds=self._lease_seconds, count=count)
        self._next_claim = now + (0 if taken else CLAIM_SECONDS * (0.8 + 0.4 * random.random()))
        return taken

    async def _begin(self, held: Held, *, claimed: bool) -> None:
        change = held.change
        if change is None or change.at is None:
            # Nothing that stands in a log.
            self._done.append(held.entry_id)
            return
        reading = self._readings.get(change.execution_id)
        if reading is not None:
            reading.entry_ids.add(held.entry_id)
            return
        if change.execution_id in self._leaving:
            # Two handlers of one execution at once would break its order: this one is claimed again in a while.
            return
        try:
            opened = await self._bookmarks.open(change.execution_id, change.at)
        except BookmarkReadError:
            self._done.append(held.entry_id)
        except BookmarkHeldError:
            # Its reader holds a change of its own. Yet that may have been the dead reader's, which we have claimed; or
            # trimmed meanwhile, with no change to come after this one. Then it stays in our hands until it is claimed.
            if not claimed and change.type not in TERMINAL_TYPES:
                self._done.append(held.entry_id)
        except ReplyError as error:
            if not error.is_of_the_key:
                raise
            self._unusable(change.execution_id, error)
            self._done.append(held.entry_id)
        else:
            if self._interrupted and opened.cursor == START and change.at.n > 1:
                # Not its first entry, and yet nothing is known of it: that may have been lost.
                opened = replace(opened, torn=True)
            reading = Reading(self._bus, change.execution_id, opened, self._handle, held.entry_id)
            self._readings[change.execution_id] = reading

    async def _keep(self) -> None:
        """Note how far all have come, and that we live."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            await asyncio.sleep(min(SAVE_SECONDS, self._lease_seconds / 6))
            now = loop.time()
            due = now - renewed >= self._lease_seconds / 3
            try:
                await self._save(renew=due)
                if due:
                    renewed = now
                    held = [entry_id for reading in self._readings.values() for entry_id in reading.entry_ids]
                    await self._group.keep(self.name, held)
                    await self._look_for_gone(now)
            except BusUnavailableError as error:
                self._bus.counters.add("handler_save_retries")
                logger.debug("group %s: its position was not saved: %s", self._group.name, error)
            except BusClosedError:
                return

    async def _save(self, *, renew: bool) -> None:
        moved = [
            reading
            for reading in self._readings.values()
            if renew or reading.position != reading.saved or reading.task.done()
        ]
        results = await asyncio.gather(*map(self._save_one, moved), return_exceptions=True)
        await self._acknowledge()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _save_one(self, reading: Reading) -> None:
        position = reading.position
        try:
            if not reading.task.done():
                await self._bookmarks.move(reading.execution_id, position)
                reading.saved = position
            elif reading.is_gone:
                # Not for good: after a failover it may be there again.
                await self._bookmarks.close(reading.execution_id, position)
                self._forget(reading)
                self._done += reading.entry_ids
            elif reading.ended:
                await self._bookmarks.end(reading.execution_id, position)
                self._forget(reading)
                self._done += reading.entry_ids
            else:
                await self._leave(reading)
                self._forget(reading)
        except BookmarkLostError:
            # We were taken for dead. What stands for it is, or will be, in the hands of another.
            self._bus.counters.add("handler_bookmarks_lost")
            logger.warning("execution %s: another reader of the group has taken it over", reading.execution_id)
            self._forget(reading)
            self._abandon(reading)
        except ReplyError as error:
            if not error.is_of_the_key:
                raise
            self._unusable(reading.execution_id, error)
            self._forget(reading)
            self._done += reading.entry_ids
            self._abandon(reading)

    async def _leave(self, reading: Reading) -> None:
        """Leave it to another, at once."""
        await self._bookmarks.close(reading.execution_id, reading.position)
        await self._group.hand_back(self.name, sorted(reading.entry_ids))

    def _forget(self, reading: Reading) -> None:
        self._readings.pop(reading.execution_id, None)
        self._room.set()

    def _abandon(self, reading: Reading) -> None:
        """Cancel it, and wait for nothing: its handler may clean up for long, and the others need their renewals."""
        execution_id, task = reading.execution_id, reading.task
        self._leaving[execution_id] = task
        task.add_done_callback(lambda _: self._leaving.pop(execution_id, None))
        task.cancel()

    async def _acknowledge(self) -> None:
        done = self._done[:]
        await self._group.acknowledge(done)
        del self._done[: len(done)]

    async def _look_for_gone(self, now: float) -> None:
        for reading in [r for r in self._readings.values() if r.idle_seconds(now) > GONE_SECONDS]:
            if not await self._bus.log.exists(reading.execution_id):
                reading.gone()

    def _unusable(self, execution_id: str, error: ReplyError) -> None:
        self._bus.counters.add("handler_bookmarks_unusable")
        logger.error("execution %s: the key of its bookmark holds a value of another type: %s", execution_id, error)

    async def _stop(self, readings: list[Reading]) -> None:
        """Let what is being handled end, and leave all the rest to others."""
        if readings:
            await asyncio.wait([reading.task for reading in readings], timeout=STOPPING_SECONDS)
        # A handler that does not end keeps its bookmark open: the next reader is told that it may have had this.
        deaf = [reading for reading in readings if not reading.task.done()]
        try:
            await self._save(renew=False)
            await self._group.hand_back(self.name, [entry_id for reading in deaf for entry_id in reading.entry_ids])
            await self._group.leave(self.name)
        except BusError as error:
            # Others claim it when our lease is over, and what they handle twice is marked.
            logger.debug("group %s: could not hand back what it holds: %s", self._group.name, error)
        for reading in deaf:
            self._abandon(reading)
        if leaving := list(self._leaving.values()):
            _, deaf_tasks = await asyncio.wait(leaving, timeout=STOPPING_SECONDS)
            for task in deaf_tasks:
                logger.error("%s does not stop; it is still running in the background", task.get_name())
