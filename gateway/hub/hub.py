"""All executions that somebody watches through this process."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final, cast, overload

from tailrace.bus.errors import BusClosedError, BusUnavailableError, ExecutionUnknownError, ReplyError
from tailrace.bus.healing.healer import Healer
from tailrace.bus.log.log import Log
from tailrace.bus.log.subscription import Subscription
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.retry import Backoff
from tailrace.bus.model.state import State
from tailrace.bus.queries.page import before_newest
from tailrace.bus.tail.watch import Tail
from tailrace.gateway.hub.pages import Pages
from tailrace.gateway.hub.single_flight import SingleFlight
from tailrace.gateway.hub.topic import Topic
from tailrace.gateway.hub.viewer import Viewer

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
# Thousands of executions are looked after in so many turns of a tick: all at once would hold up everybody's events.
TICK_TURNS: Final = 20


@dataclass(frozen=True, slots=True)
class HubLimits:
    """Bounds. ``ring_*`` are for one execution, ``rings_bytes`` for all of them together."""

    heartbeat_seconds: float = 10.0
    slow_timeout_seconds: float = 30.0
    linger_seconds: float = 5.0
    ring_entries: int = 1024
    ring_bytes: int = 1024 * 1024
    rings_bytes: int = 256 * 1024 * 1024
    min_ring_bytes: int = 16 * 1024


class _Watched:
    """A topic and what keeps it up to date."""

    __slots__ = ("holds", "idle_since", "subscription", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.subscription: Subscription | None = None
        self.idle_since: float | None = None
        self.holds = 0

    def close(self) -> None:
        if self.subscription is not None:
            self.subscription.close()
        self.topic.close()


class Hold:
    """Keeps a topic for a viewer that has not joined yet, until it is released, or nobody has it any more."""

    __slots__ = ("_watched",)

    def __init__(self, watched: _Watched | None) -> None:
        self._watched = watched
        if watched is not None:
            watched.holds += 1

    def release(self) -> None:
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.holds -= 1

    def __del__(self) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read of an execution; ``head`` is None where a topic knew it."""

    state: State | None
    head: Cursor | None
    exists: bool

    @property
    def terminal(self) -> Cursor | None:
        return None if self.state is None else self.state.terminal


Allows = Callable[[State | None], bool]


class Hub:
    """Joins viewers to topics; reads pages for them; keeps the time: heartbeats, slow cuts, lingering."""

    def __init__(self, log: Log, tail: Tail, limits: HubLimits, *, healer: Healer | None = None) -> None:
        self.limits = limits
        self.counters = log.counters
        self._log = log
        self._tail = tail
        self._loop = asyncio.get_running_loop()
        self._pages = Pages(log)
        self._watched: dict[str, _Watched] = {}
        self._opening: SingleFlight[str, _Found] = SingleFlight()
        self._counting: SingleFlight[tuple[str, int], Cursor] = SingleFlight()
        self._replays: set[asyncio.Task[None]] = set()
        self._healer = healer
        # What has been quiet since the last look: its owner may be gone, and the index that would tell may be lost.
        self._quiet: list[str] = []
        self._looking_after: asyncio.Task[None] | None = None
        self._ticker = self._loop.create_task(self._tick(), name="hub:tick")
        self.draining = False
        self.deliveries = 0
        self._drain_seconds = 0.0

    @property
    def viewers(self) -> int:
        # A copy in one step: it may be a thread that asks.
        return sum(len(watched.topic.viewers) for watched in list(self._watched.values()))

    def viewers_by_execution(self) -> dict[str, int]:
        return {execution_id: len(watched.topic.viewers) for execution_id, watched in self._watched.items()}

    @property
    def topics(self) -> int:
        return len(self._watched)

    @property
    def tail_mode(self) -> str:
        return self._tail.mode

    @overload
    async def open(self, execution_id: str, *, allows: Allows = ...) -> Topic: ...

    @overload
    async def open(self, execution_id: str, after: Cursor | None, *, allows: Allows = ...) -> Topic | None: ...

    async def open(
        self, execution_id: str, after: Cursor | None = None, *, allows: Allows = lambda _: True
    ) -> Topic | None:
        """Watch an execution from its present head on, once for all its viewers.

        None when it has ended and nothing follows ``after``. Reads the state once; ``allows`` is asked about it.
        Raises ExecutionUnknownError for what is not there or not allowed, BusUnavailableError.
        """
        while True:
            found = await self._opening.ask(execution_id, partial(self._read_found, execution_id))
            if not found.exists or not allows(found.state):
                raise ExecutionUnknownError(execution_id)
            if found.terminal is not None and after == found.terminal:
                return None
            watched = self._watch(execution_id, found)
            if watched is not None:
                watched.idle_since = self._loop.time()
                return watched.topic

    def unbegun(self, execution_id: str) -> Topic:
        """Watch an execution that is not there, for a viewer that joins at once and is to be told when it begins."""
        # There is one, because a head is given.
        watched = cast("_Watched", self._watch(execution_id, _Found(None, START, exists=False)))
        watched.idle_since = self._loop.time()
        return watched.topic

    def hold(self, topic: Topic) -> Hold:
        """Keep a topic that was just opened; for whoever waits for something before the viewer joins it."""
        watched = self._watched.get(topic.execution_id)
        return Hold(watched if watched is not None and watched.topic is topic else None)

    async def before_newest(self, execution_id: str, count: int) -> Cursor:
        """The cursor after which there are the newest so many entries. Raises BusUnavailableError, ReplyError."""
        counting = partial(before_newest, self._log, execution_id, count)
        return await self._counting.ask((execution_id, count), counting)

    def leave(self, topic: Topic, viewer: Viewer) -> None:
        topic.leave(viewer)
        watched = self._watched.get(topic.execution_id)
        if watched is not None and watched.topic is topic and not topic.viewers:
            watched.idle_since = self._loop.time()

    async def drain(self, seconds: float) -> None:
        """Tell every viewer to come back elsewhere, spread over the time given."""
        self.draining = True
        self._drain_seconds = seconds
        topics = [watched.topic for watched in self._watched.values()]
        viewers = [(topic, viewer) for topic in topics for viewer in topic.viewers]
        random.shuffle(viewers)
        start = self._loop.time()
        for index, (topic, viewer) in enumerate(viewers):
            due = start + seconds * index / len(viewers)
            if due > self._loop.time():
                await asyncio.sleep(due - self._loop.time())
            self.send_away(topic, viewer)

    def send_away_at_once(self, chosen: Callable[[Viewer], bool], seconds: float) -> None:
        """Tell those who would not live until it is their turn; they spread their return over the time given."""
        self.draining = True
        self._drain_seconds = seconds
        for watched in list(self._watched.values()):
            for viewer in [viewer for viewer in watched.topic.viewers if chosen(viewer)]:
                self.send_away(watched.topic, viewer)

    def send_away(self, topic: Topic, viewer: Viewer) -> None:
        topic.send_away(viewer, retry_ms=random.randint(100, 100 + int(self._drain_seconds * 1000)))

    async def aclose(self) -> None:
        tasks = [self._ticker, *self._replays]
        if self._looking_after is not None:
            tasks.append(self._looking_after)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for asked in (self._opening, self._counting, self._pages):
            await asked.aclose()
        for watched in self._watched.values():
            watched.close()
        self._watched.clear()

    # gateway.hub.topic.Ports

    def read_page(self, topic: Topic, viewer: Viewer) -> None:
        task = self._loop.create_task(self._replay(topic, viewer))
        self._replays.add(task)
        task.add_done_callback(self._replays.discard)

    def later(self, delay_ms: int, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_ms / 1000, call)

    def now(self) -> float:
        return self._loop.time()

    def count(self, name: str, amount: int = 1) -> None:
        self.counters.add(name, amount)

    async def _read_found(self, execution_id: str) -> _Found:
        log = self._log
        # The head first: an ending that comes in between is then after the head, and the subscription sees it.
        head = None if self._live(execution_id) is not None else await log.latest(execution_id)
        state, exists = await log.found(execution_id)
        return _Found(state, head, exists or not log.of_executions)

    def _live(self, execution_id: str) -> _Watched | None:
        """A topic that goes on; an ending is true of the log that it was read from, which may be gone by now."""
        watched = self._watched.get(execution_id)
        return None if watched is None or watched.topic.ended else watched

    def _watch(self, execution_id: str, found: _Found) -> _Watched | None:
        """The topic that there is, or a new one; None when there was one, and it has gone since."""
        if (live := self._live(execution_id)) is not None:
            if found.state is not None:
                live.topic.status = found.state.status
            return live
        if found.head is None:
            return None
        state, terminal = found.state, found.terminal
        before = self._watched.get(execution_id)
        if before is not None:
            if before.topic.ended_at(terminal):
                return before
            # Its log was deleted, or can be read again: viewers of the old log come back to what there is.
            before.close()
        topic = Topic(
            execution_id,
            found.head if terminal is None else terminal,
            self,
            max_entries=self.limits.ring_entries,
            max_bytes=self._ring_bytes(),
            status=state.status if state is not None else "unknown",
            ended=terminal is not None,
        )
        watched = self._watched[execution_id] = _Watched(topic)
        if terminal is None:
            watched.subscription = Subscription(
                self._log,
                self._tail,
                execution_id,
                Numbering.after(found.head),
                topic,
                timed=False,
                bare=topic.bare if self._log.of_executions else None,
            )
        return watched

    def _ring_bytes(self) -> int:
        share = self.limits.rings_bytes // (len(self._watched) + 1)
        return max(self.limits.min_ring_bytes, min(self.limits.ring_bytes, share))

    async def _replay(self, topic: Topic, viewer: Viewer) -> None:
        async with viewer.turn or nullcontext():
            await self._read_on(topic, viewer)

    async def _read_on(self, topic: Topic, viewer: Viewer) -> None:
        backoff, attempt, beat = Backoff(), 0, self._loop.time()
        while viewer in topic.viewers:
            try:
                page = await self._pages.read(
                    topic.execution_id, topic.epoch, viewer.position, viewer.rendering, viewer.wanted
                )
            except BusClosedError:
                return
            except BusUnavailableError as error:
                if isinstance(error, ReplyError) and error.is_of_the_key:
                    topic.fail(error)
                    return
                attempt += 1
                self.counters.add("replay_retries")
                if attempt == 1:
                    logger.warning("replay of %s: %s; retrying", topic.execution_id, error)
                if self._loop.time() - beat >= self.limits.heartbeat_seconds:
                    beat = self._loop.time()
                    if not topic.beat(viewer):
                        return
                await asyncio.sleep(backoff.delay_seconds(attempt, random.random))
            else:
                topic.page(viewer, page)
                return

    async def _tick(self) -> None:
        while True:
            all_watched = list(self._watched.values())
            size = len(all_watched) // TICK_TURNS + 1
            for start in range(0, size * TICK_TURNS, size):
                await asyncio.sleep(TICK_SECONDS / TICK_TURNS)
                self._look_after_some(all_watched[start : start + size])
            self._heal_quiet()
            self._pages.forget_old()

    def _look_after_some(self, some: Sequence[_Watched]) -> None:
        now = self._loop.time()
        ring_bytes = self._ring_bytes()
        for watched in some:
            if self._watched.get(watched.topic.execution_id) is not watched:
                continue
            watched.topic.max_bytes = ring_bytes
            try:
                self._look_after(watched, now)
            except Exception:
                # One execution's trouble must not stop the heartbeats of all the others.
                self.counters.add("hub_errors")
                logger.exception("tick of %s failed; retrying at the next", watched.topic.execution_id)

    def _look_after(self, watched: _Watched, now: float) -> None:
        topic = watched.topic
        if watched.subscription is not None and watched.subscription.check_stale(now):
            self._quiet.append(topic.execution_id)
        topic.heartbeat(now, self.limits.heartbeat_seconds)
        cut = topic.cut_stuck(now, self.limits.slow_timeout_seconds)
        if cut:
            self.counters.add("slow_cuts", cut)
            logger.warning("cut %d slow viewers of %s; they can resume", cut, topic.execution_id)
        self._close_if_idle(watched, now)

    def _heal_quiet(self) -> None:
        if self._quiet and (self._looking_after is None or self._looking_after.done()):
            quiet, self._quiet = self._quiet, []
            if self._healer is not None:
                self._looking_after = self._loop.create_task(self._heal(self._healer, quiet), name="hub:heal")

    async def _heal(self, healer: Healer, execution_ids: list[str]) -> None:
        try:
            await healer.look_after(execution_ids)
        except BusUnavailableError as error:
            logger.debug("%d quiet executions not healed: %s", len(execution_ids), error)

    def _close_if_idle(self, watched: _Watched, now: float) -> None:
        topic = watched.topic
        if (
            topic.viewers
            or watched.holds
            or watched.idle_since is None
            or now - watched.idle_since < self.limits.linger_seconds
        ):
            return
        watched.close()
        del self._watched[topic.execution_id]
