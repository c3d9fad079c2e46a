"""A run that floods the tail, or has a large backlog, holds up nobody else.

What counts is how many of the flood's entries are delivered between a quiet event's append and its arrival: that does
not change with the machine's other work, which holds up both alike. Seconds are compared loosely, with what they were
just before on the same machine.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from tailrace.bus import START, Bus, BusSettings, Entry, open_bus
from tailrace.bus.log.subscription import Subscription
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.entry import Gap
from tailrace.bus.tail.tracking import TURN_ENTRIES
from tests.e2e.waiting import eventually
from tests.integration.tail.pressing import Order, Pressing, fields
from tests.patience import stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

QUIET_RUNS = [f"quiet-{number}" for number in range(200)]
LOUD_RUN = "loud"
BACKLOG = 200_000
# Under way when it was appended, the one it came into, and one for what the publisher and Redis take.
MOST_BEFORE = 3 * TURN_ENTRIES
RATIO = 10
SLACK_SECONDS = 0.5

Span = tuple[float, float]


class Counting:
    """A reader that counts, and remembers when it had got how far."""

    def __init__(self) -> None:
        self.count = 0
        self._times = [0.0]
        self._counts = [0]

    def news(self, items: Sequence[Entry | Gap]) -> None:
        assert not any(isinstance(item, Gap) for item in items)
        self.count += len(items)
        self._times.append(time.monotonic())
        self._counts.append(self.count)

    def count_at(self, when: float) -> int:
        return self._counts[bisect_right(self._times, when) - 1]

    def end(self, status: object) -> None:
        del status
        raise AssertionError("it does not end")

    def fail(self, error: Exception) -> None:
        raise error


class Timing(Counting):
    """Notes of each event when it was appended and when it came."""

    def __init__(self) -> None:
        super().__init__()
        # When it was appended, and when it came.
        self.arrivals: list[tuple[float, float]] = []

    def news(self, items: Sequence[Entry | Gap]) -> None:
        super().news(items)
        now = time.monotonic()
        for item in items:
            assert isinstance(item, Entry)
            self.arrivals.append((item.data["at"], now))

    def appended(self, since: float, until: float) -> list[tuple[float, float]]:
        return [(at, came) for at, came in self.arrivals if since <= at < until]


class Scene:
    def __init__(self, bus: Bus, server: RunningServer) -> None:
        self.bus = bus
        self.quiet = Timing()
        self._server = server
        self._subscriptions: list[Subscription] = []

    async def watch(self, run: str, reader: Counting) -> None:
        tail = await self.bus.tail()
        self._subscriptions.append(Subscription(self.bus.log, tail, run, Numbering.after(START), reader))

    def pressing(self, runs: list[str], events: int, every_seconds: float) -> Pressing:
        prefix = self.bus.settings.prefix
        return Pressing(
            Order(redis_url=self._server.url, prefix=prefix, runs=runs, events=events, every_seconds=every_seconds)
        )

    async def all_came(self, reader: Counting, count: int) -> None:
        async def came() -> bool:
            """all that was appended has come"""
            return reader.count >= count

        await eventually(came, seconds=60)
        assert reader.count == count

    def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.close()


@asynccontextmanager
async def scene(server: RunningServer) -> AsyncGenerator[Scene, None]:
    """200 quiet runs are watched by one tail."""
    settings = BusSettings(prefix="fair", tail="tracking", max_entries=2 * BACKLOG, max_log_bytes=1024**3)
    async with await open_bus(server.url, settings=settings) as bus:
        made = Scene(bus, server)
        for run in QUIET_RUNS:
            await made.watch(run, made.quiet)
        try:
            yield made
        finally:
            made.close()


def assert_not_held_up(quiet: Timing, loud: Counting, unloaded: Span, loaded: Span) -> None:
    baseline = [came - at for at, came in quiet.appended(*unloaded)]
    delays = [came - at for at, came in quiet.appended(*loaded)]
    before = [loud.count_at(came) - loud.count_at(at) for at, came in quiet.appended(*loaded)]
    print(f"quiet events unloaded: {_milliseconds(baseline)}; loaded: {_milliseconds(delays)}")
    print(f"loud ones before them: p50 {statistics.median(before):.0f}, p90 {ninetieth(before):.0f}")
    assert len(delays) >= 50
    assert ninetieth(before) < MOST_BEFORE
    assert ninetieth(delays) < RATIO * ninetieth(baseline) + stretched(SLACK_SECONDS)


def _milliseconds(delays: list[float]) -> str:
    return f"p50 {statistics.median(delays) * 1e3:.1f} ms, p90 {ninetieth(delays) * 1e3:.1f} ms of {len(delays)}"


def ninetieth(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=10)[-1]


async def test_one_run_at_20k_events_a_second_does_not_hold_up_two_hundred_quiet_ones(
    fresh_server: RunningServer,
) -> None:
    async with scene(fresh_server) as fair:
        loud = Counting()
        await fair.watch(LOUD_RUN, loud)
        with fair.pressing(QUIET_RUNS, events=1, every_seconds=0.0025) as quiet:
            begun = time.monotonic()
            await asyncio.sleep(2.5)
            unloaded = (begun, time.monotonic())
            with fair.pressing([LOUD_RUN], events=200, every_seconds=0.01) as pressing:
                pressed = time.monotonic()
                await asyncio.sleep(4)
                until = time.monotonic()
            took_seconds = time.monotonic() - pressed
        await fair.all_came(loud, pressing.appended)
        await fair.all_came(fair.quiet, quiet.appended)
        print(f"{pressing.appended / took_seconds:.0f} loud events a second")
        assert_not_held_up(fair.quiet, loud, unloaded, (pressed, until))
        # 20k where the machine lets it.
        assert pressing.appended / took_seconds > 2_000


async def test_a_backlog_of_200k_entries_does_not_hold_up_two_hundred_quiet_runs(fresh_server: RunningServer) -> None:
    async with scene(fresh_server) as fair:
        batch = [fields(number) for number in range(1000)]
        for _ in range(BACKLOG // 1000):
            await fair.bus.log.append(LOUD_RUN, batch)
        loud = Counting()
        with fair.pressing(QUIET_RUNS, events=1, every_seconds=0.0025) as quiet:
            begun = time.monotonic()
            await asyncio.sleep(2)
            watched = time.monotonic()
            await fair.watch(LOUD_RUN, loud)
            await fair.all_came(loud, BACKLOG)
            until = time.monotonic()
        await fair.all_came(fair.quiet, quiet.appended)
        print(f"{BACKLOG} entries of backlog read in {until - watched:.1f} s")
        assert_not_held_up(fair.quiet, loud, (begun, watched), (watched, until))
