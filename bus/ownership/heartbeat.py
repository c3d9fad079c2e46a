"""The heartbeat of a process: a thread that renews the leases of all the executions that it runs.

It has connections and an event loop of its own, so that a body that blocks its loop keeps its lease: the thread tells
that the loop stalls, and after ``STALL_LIMIT_SECONDS`` gives the executions up. An owner whose renewals fail is told a
margin before another may take over, by this process's monotonic clock, counted from the last renewal that was sent.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tailrace.bus.errors import BusClosedError, BusError, BusUnavailableError, ExecutionClosedError, LeaseLostError
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.fence import Fence
from tailrace.bus.model.retry import Backoff
from tailrace.bus.ownership.beat import Beat
from tailrace.bus.ownership.lease import Lease, Leases, Renewed
from tailrace.bus.ownership.loop_watch import LoopWatch
from tailrace.bus.ownership.session import Session
from tailrace.bus.redis.commands import Commands

logger = logging.getLogger(__name__)

# Two renewals may fail before a lease runs out.
BEATS_A_LEASE: Final = 3
# While Redis is away, an owner that comes back a moment too late has lost everything.
BEATS_A_LEASE_IN_TROUBLE: Final = 12
# What is left of a lease when an owner that could not renew it stops, so that it has stopped when another begins.
MARGIN_OF_LEASE: Final = 1 / 10
MIN_MARGIN_SECONDS: Final = 0.25
# No renewal waits behind another: what a dead node of a cluster holds up is its own executions.
RENEWAL_SECONDS: Final = 1.0
PROBE_SECONDS: Final = 0.5
STALL_SECONDS: Final = 2.0
STALL_LIMIT_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class HeartbeatParts:
    """What the thread works with, made in its loop."""

    commands: Commands
    leases: Leases
    index: ExecutionIndex
    session: Session
    # Says in an execution's log how its owner is; may raise BusError.
    tell_health: Callable[[str, Fence, dict[str, object]], Awaitable[None]]


class Heartbeat:
    """Renewals are sent together, and one command tells the index when to look at them if no more of them come."""

    def __init__(
        self,
        open_parts: Callable[[], Awaitable[HeartbeatParts]],
        index: ExecutionIndex,
        counters: Counters,
        *,
        lease_seconds: float,
        stall_limit_seconds: float = STALL_LIMIT_SECONDS,
        on_unstoppable: Callable[[str], None] | None = None,
    ) -> None:
        """``open_parts`` is called in the thread; ``index`` is the caller's, for what begins before that has connected.

        ``on_unstoppable`` too, with a sentence: a worker ends its process there, because code of it that must not go
        on cannot be stopped.
        """
        self.lease_seconds = lease_seconds
        self.stall_limit_seconds = stall_limit_seconds
        self.on_unstoppable = on_unstoppable
        self.margin_seconds = max(lease_seconds * MARGIN_OF_LEASE, min(MIN_MARGIN_SECONDS, lease_seconds / 4))
        # When its code must have stopped, or the process ends.
        self._last_seconds = self.margin_seconds / 4
        self._open_parts = open_parts
        self._index = index
        self._later: set[asyncio.Task[None]] = set()
        self._counters = counters
        self._beats: set[Beat] = set()
        self._dropped: list[str] = []
        # Let go without an ending before the index was told of them: when to look at them.
        self._unended: dict[str, int] = {}
        # When those began that are not listed yet: they were not submitted.
        self._unlisted: dict[str, int] = {}
        self._renewed: list[tuple[Beat, Renewed]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._parts: HeartbeatParts | None = None
        self._news = asyncio.Event()
        # Whose last renewal failed: one node of a cluster may be away.
        self._failing: set[Beat] = set()
        self._closed = False
        self._loops = LoopWatch(STALL_SECONDS)
        self._telling: set[asyncio.Task[None]] = set()

    def keep(
        self,
        lease: Lease,
        on_renewed: Callable[[Renewed], None],
        on_lost: Callable[[BusError], None],
        on_uncertain: Callable[[], None] = lambda: None,
        is_acting: Callable[[], bool] = lambda: False,
    ) -> Beat:
        """Hold on to a lease until the beat is stopped.

        ``on_renewed`` is told the execution's status with every renewal: that of an owner which missed that it is to
        cancel, too. ``on_uncertain`` is called once when renewals have failed for so long that another may soon take
        over; if its code still ``is_acting`` when that is about to happen, the process has to end. ``on_lost`` is
        called once, and the beat is over: with LeaseLostError when another has taken the execution over, with
        ExecutionClosedError when it has ended (its owner may have ended it a moment ago). All are called in the
        caller's loop, between two turns, and must not block; ``is_acting`` is called in the thread.
        Raises BusClosedError.
        """
        if self._closed:
            raise BusClosedError("the bus is closed")
        beat = Beat(lease, on_renewed, on_lost, on_uncertain, is_acting, self.drop)
        with self._lock:
            self._beats.add(beat)
            if not lease.status and lease.attempt == 1:
                self._unlisted[lease.execution_id] = lease.until_ms - int(self.lease_seconds * 1000)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run_thread, name="tailrace-heartbeat", daemon=True)
                self._thread.start()
        if self._parts is None:
            self.later(self._announce_early(lease))
        self._wake()
        return beat

    def later(self, call: Coroutine[Any, Any, None]) -> None:
        """Have it done in the running loop, beside what its caller does; it ends with the heartbeat."""
        task = asyncio.get_running_loop().create_task(call, name="heartbeat:later")
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def drop(self, beat: Beat, unended: bool = False) -> None:  # noqa: FBT001, FBT002 - given to the beat as it is
        with self._lock:
            self._failing.discard(beat)
            if beat in self._beats:
                self._beats.discard(beat)
                self._dropped.append(beat.lease.execution_id)
                if unended and not beat.announced:
                    self._unended[beat.lease.execution_id] = beat.lease.until_ms
        if unended:
            self._wake()

    async def aclose(self) -> None:
        self._closed = True
        with self._lock:
            self._beats.clear()
        for task in list(self._later):
            task.cancel()
        if self._thread is not None:
            self._wake()
            await asyncio.to_thread(self._thread.join, _STOP_SECONDS)

    async def _announce_early(self, lease: Lease) -> None:
        try:
            await self._index.look_at_all({lease.execution_id: lease.until_ms})
        except BusUnavailableError as error:
            logger.debug("the index is not told of %s: %s; the heartbeat does", lease.execution_id, error)

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._news.set)
            except RuntimeError:
                logger.debug("the heartbeat has ended already")

    def _run_thread(self) -> None:
        try:
            asyncio.run(self._run())
        except Exception:
            self._counters.add("heartbeat_errors")
            logger.exception("the heartbeat has failed; its owners are told that their leases will expire")
            with self._lock:
                # The next execution starts another.
                self._thread, self._loop, self._parts = None, None, None
            for beat in self._snapshot():
                self._call(beat, beat.on_uncertain)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        # From the first moment on: connecting may take longer than a lease.
        watching = asyncio.create_task(self._watch(), name="heartbeat:watch")
        try:
            if (parts := await self._opened()) is not None:
                await self._renew_all(parts)
        finally:
            watching.cancel()

    async def _renew_all(self, parts: HeartbeatParts) -> None:
        self._parts = parts
        under_way: set[asyncio.Task[None]] = set()

        async def bounded(*calls: Coroutine[Any, Any, None]) -> None:
            """Of a cluster, one node may not answer: what waits for it holds up nothing that others need."""
            tasks = {asyncio.create_task(call) for call in calls}
            under_way.update(tasks)
            for task in tasks:
                task.add_done_callback(under_way.discard)
                task.add_done_callback(self._note_failure)
            if tasks:
                await asyncio.wait(tasks, timeout=min(RENEWAL_SECONDS, self.lease_seconds / 12))

        due = time.monotonic() + self._pause_seconds()
        # What was kept before this loop could be woken is announced now, not with its first renewal.
        self._news.set()
        try:
            while not self._closed:
                try:
                    async with asyncio.timeout(max(0.0, due - time.monotonic())):
                        await self._news.wait()
                except TimeoutError:
                    pass
                self._news.clear()
                now = time.monotonic()
                await bounded(self._announce(parts))
                if now >= due:
                    due = now + self._pause_seconds()
                    beats = [beat for beat in self._snapshot() if not beat.renewing]
                    await bounded(*(self._renew(parts, beat) for beat in beats))
                    if beats:
                        due = min(due, time.monotonic() + self._pause_seconds())
                await bounded(self._schedule(parts))
        finally:
            for task in under_way:
                task.cancel()
            try:
                async with asyncio.timeout(1.0):
                    # What began and ended in the last moment is listed all the same.
                    await self._announce(parts)
                    await parts.session.end(parts.commands)
            except (BusError, TimeoutError) as error:
                logger.debug("session not ended: %s", error)
            await parts.commands.aclose()

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None or isinstance(error, BusClosedError):
            return
        # One execution's trouble must not cost all the others their leases.
        self._counters.add("heartbeat_errors")
        logger.error("heartbeat failed; retrying", exc_info=error)

    async def _watch(self) -> None:
        """Waits for no answer of Redis: it sees when owners must stop, and whether their loops turn."""
        probe = 0.0
        while True:
            now = time.monotonic()
            self._stop_uncertain(now)
            if now >= probe:
                probe = now + PROBE_SECONDS
                self._watch_loops(now)
            await asyncio.sleep(max(0.01, min(probe, *self._fences()) - now))

    async def _opened(self) -> HeartbeatParts | None:
        backoff, attempt = Backoff(), 0
        while not self._closed:
            try:
                return await self._open_parts()
            except BusError as error:
                attempt += 1
                if attempt == 1:
                    logger.warning("the heartbeat cannot connect: %s; retrying", error)
                await asyncio.sleep(min(backoff.delay_seconds(attempt, random.random), self.margin_seconds))
        return None

    def _snapshot(self) -> list[Beat]:
        with self._lock:
            return list(self._beats)

    def _pause_seconds(self) -> float:
        beats = BEATS_A_LEASE_IN_TROUBLE if self._failing else BEATS_A_LEASE
        return self.lease_seconds / beats * (0.8 + 0.2 * random.random())

    def _fences(self) -> list[float]:
        """When the first of the owners must stop, or have stopped."""
        return [
            beat.asked + self.lease_seconds - (self._last_seconds if beat.uncertain else self.margin_seconds)
            for beat in self._snapshot()
            if not beat.unstoppable
        ]

    def _stop_uncertain(self, now: float) -> None:
        for beat in self._snapshot():
            left_seconds = beat.asked + self.lease_seconds - now
            if not beat.uncertain and left_seconds <= self.margin_seconds:
                beat.uncertain = True
                self._counters.add("leases_uncertain")
                self._call(beat, beat.on_uncertain)
            elif beat.uncertain and not beat.unstoppable and left_seconds <= self._last_seconds:
                # Once: it is looked at no more until its lease is renewed.
                beat.unstoppable = True
                if beat.is_acting():
                    self._counters.add("bodies_unstoppable")
                    self._end_process(
                        f"execution {beat.lease.execution_id} could not renew its lease, and its code does not stop"
                    )

    async def _announce(self, parts: HeartbeatParts) -> None:
        """The index and the session learn of an execution with its lease: its owner may die before it renews."""
        with self._lock:
            fresh = [beat for beat in self._beats if not beat.announced]
            dropped, self._dropped = self._dropped, []
            unended, self._unended = self._unended, {}
            unlisted, self._unlisted = self._unlisted, {}
            kept = {beat.lease.execution_id for beat in self._beats}
        gone = [each for each in dropped if each not in kept]
        if not (fresh or gone or unlisted):
            return
        leases = [beat.lease for beat in fresh]
        calls: list[Awaitable[None]] = [
            parts.index.note(execution_id, None, created_ms) for execution_id, created_ms in unlisted.items()
        ]
        if gone:
            calls.append(parts.session.let_go(parts.commands, gone))
        if unended:
            calls.append(parts.index.restore(unended))
        if leases:
            calls.append(parts.index.look_at_all({lease.execution_id: lease.until_ms for lease in leases}))
            calls.append(parts.session.hold(parts.commands, [lease.execution_id for lease in leases]))
        try:
            await asyncio.gather(*calls)
        except BusUnavailableError as error:
            logger.debug("the index is not told of new executions: %s; retrying", error)
            asyncio.get_running_loop().call_later(RENEWAL_SECONDS, self._news.set)
            with self._lock:
                self._dropped += gone
                self._unended = unended | self._unended
                self._unlisted = unlisted | self._unlisted
        else:
            for beat in fresh:
                beat.announced = True

    async def _renew(self, parts: HeartbeatParts, beat: Beat) -> None:
        beat.renewing = True
        try:
            renewed = await parts.leases.renew(beat.lease, beat.status)
        except (ExecutionClosedError, LeaseLostError) as error:
            self.drop(beat)
            self._call(beat, partial(beat.on_lost, error))
        except BusUnavailableError as error:
            self._counters.add("lease_renew_retries")
            if not self._failing:
                logger.warning(
                    "execution %s: the lease could not be renewed: %s; retrying", beat.lease.execution_id, error
                )
            self._failing.add(beat)
        else:
            self._failing.discard(beat)
            beat.asked = renewed.asked
            beat.uncertain = beat.unstoppable = False
            self._renewed.append((beat, renewed))
            self._call(beat, partial(beat.on_renewed, renewed))
        finally:
            beat.renewing = False

    def _call(self, beat: Beat, call: Callable[[], None]) -> None:
        def told() -> None:
            if beat.stopped:
                # While its renewal was under way.
                return
            try:
                call()
            except Exception:
                self._counters.add("heartbeat_errors")
                logger.exception("execution %s: a callback of the heartbeat failed", beat.lease.execution_id)

        try:
            beat.loop.call_soon_threadsafe(told)
        except RuntimeError:
            # Its loop is closed: it does not run any more, and nothing keeps it from others.
            self.drop(beat)

    async def _schedule(self, parts: HeartbeatParts) -> None:
        """One that cancels is looked at when its grace is over, and a renewal must not put that off."""
        renewed, self._renewed = self._renewed, []
        at_ms: dict[str, int] = {}
        try:
            for beat, each in renewed:
                if beat not in self._beats:
                    continue
                if each.status != "cancelling":
                    at_ms[beat.lease.execution_id] = each.until_ms
                elif not beat.cancelling:
                    # We may just have put it off, not knowing: the next look sees when the grace is over.
                    beat.cancelling = True
                    await parts.index.look_at(beat.lease.execution_id, 0)
            if at_ms:
                await asyncio.gather(parts.index.look_at_all(at_ms), parts.session.hold(parts.commands, at_ms))
        except BusUnavailableError as error:
            logger.debug("the index is not told of %d renewals: %s", len(renewed), error)

    def _watch_loops(self, now: float) -> None:
        """See whether the loops that run our executions still turn."""
        beats = self._snapshot()
        for loop, seconds, is_new in self._loops.look({beat.loop for beat in beats}, now):
            if is_new:
                self._counters.add("loop_stalls")
                logger.warning("the event loop has been blocked for %.1f s; leases are still renewed", seconds)
                stalled = [beat for beat in beats if beat.loop is loop]
                if self._parts is not None:
                    telling = asyncio.create_task(self._tell_health(self._parts, stalled, seconds))
                    self._telling.add(telling)
                    telling.add_done_callback(self._telling.discard)
            if seconds >= self.stall_limit_seconds:
                self._give_up(loop, seconds)

    async def _tell_health(self, parts: HeartbeatParts, beats: Iterable[Beat], seconds: float) -> None:
        data: dict[str, object] = {"status": "stalled", "seconds": round(seconds, 1)}
        told = [parts.tell_health(beat.lease.execution_id, beat.lease.fence, data) for beat in beats]
        for result in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(result, BaseException):
                logger.debug("that the loop stalls is not told: %s", result)

    def _give_up(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._counters.add("stall_limits")
        self._end_process(
            f"a step has blocked the event loop for {seconds:.0f} s, the limit; run such a step in a thread "
            "(a plain function) or a process"
        )
        for beat in self._snapshot():
            if beat.loop is loop:
                self.drop(beat)
                self._call(beat, partial(beat.on_lost, LeaseLostError(beat.lease.execution_id)))

    def _end_process(self, reason: str) -> None:
        logger.error("%s; giving up what cannot be stopped", reason)
        if self.on_unstoppable is not None:
            self.on_unstoppable(reason)
