"""A run that floods the tail, or has a large backlog, holds up nobody else.

How long quiet runs' events take is compared with what it took just before, in the same process on the same machine; a
reader that serves the flood first is over these bounds by far, a noisy machine is not.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from bus import START, Bus, BusSettings, Entry, open_bus
from bus.continuity import Numbering
from bus.entry import Gap
from bus.subscription import Subscription
from tests.e2e.waiting import eventually
from tests.integration.tail.pressing import Order, Pressing, fields
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

QUIET_RUNS = [f"quiet-{number}" for number in range(200)]
LOUD_RUN = "loud"
BACKLOG = 200_000
# A hundred turns of the tail, and about what a neighbour on the machine takes away at once.
RATIO = 10
SLACK_SECONDS = 0.1


class Counting:
    """A reader that only counts."""

    def __init__(self) -> None:
        self.count = 0

    def news(self, items: Sequence[Entry | Gap]) -> None:
        assert not any(isinstance(item, Gap) for item in items)
        self.count += len(items)

    def end(self) -> None:
        raise AssertionError("it does not end")

    def fail(self, error: Exception) -> None:
        raise error


class Timing(Counting):
    """Notes when each event was appended, and how long it took to come."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[tuple[float, float]] = []

    def news(self, items: Sequence[Entry | Gap]) -> None:
        super().news(items)
        now = time.monotonic()
        for item in items:
            assert isinstance(item, Entry)
            at = item.data["at"]
            self.arrivals.append((at, now - at))

    def delays(self, since: float, until: float) -> list[float]:
        return [delay for at, delay in self.arrivals if since <= at < until]


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

        await eventually(came, seconds=10)
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


def assert_not_held_up(baseline: list[float], loaded: list[float]) -> None:
    before, during = ninetieth(baseline), ninetieth(loaded)
    print(
        f"quiet runs' events: p50 {statistics.median(baseline) * 1e3:.1f} ms, p90 {before * 1e3:.1f} ms unloaded; "
        f"p50 {statistics.median(loaded) * 1e3:.1f} ms, p90 {during * 1e3:.1f} ms loaded ({len(loaded)} events)"
    )
    assert during < RATIO * before + SLACK_SECONDS


def ninetieth(delays: list[float]) -> float:
    return statistics.quantiles(delays, n=10)[-1]


async def test_one_run_at_20k_events_a_second_does_not_hold_up_two_hundred_quiet_ones(
    fresh_server: RunningServer,
) -> None:
    async with scene(fresh_server) as fair:
        loud = Counting()
        await fair.watch(LOUD_RUN, loud)
        with fair.pressing(QUIET_RUNS, events=1, every_seconds=0.0025) as quiet:
            begun = time.monotonic()
            await asyncio.sleep(2.5)
            loaded = time.monotonic()
            with fair.pressing([LOUD_RUN], events=200, every_seconds=0.01) as pressing:
                pressed = time.monotonic()
                await asyncio.sleep(4)
                until = time.monotonic()
            took_seconds = time.monotonic() - pressed
        await fair.all_came(loud, pressing.appended)
        await fair.all_came(fair.quiet, quiet.appended)
        print(f"{pressing.appended / took_seconds:.0f} loud events a second")
        assert_not_held_up(fair.quiet.delays(begun, loaded), fair.quiet.delays(pressed, until))
        assert pressing.appended / took_seconds > 10_000, "the machine was too busy for this to mean anything"


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
        assert_not_held_up(fair.quiet.delays(begun, watched), fair.quiet.delays(watched, until))
