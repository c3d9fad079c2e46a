"""The heartbeat of a process: one task renews the leases of all the executions that it runs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from tailrace.bus.errors import BusClosedError, BusError, BusUnavailableError, ExecutionClosedError, LeaseLostError
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.model.counters import Counters
from tailrace.bus.ownership.lease import Lease, Leases, Renewed

logger = logging.getLogger(__name__)

# Two renewals may fail before a lease runs out.
BEATS_A_LEASE: Final = 3
# While Redis is away, somebody who comes back a moment too late has lost everything.
BEATS_A_LEASE_IN_TROUBLE: Final = 12


class Beat:
    """One execution's share of the heartbeat; ``stop`` it before the lease is released."""

    __slots__ = ("_beats", "cancelling", "fresh", "lease", "on_lost", "on_renewed")

    def __init__(
        self,
        beats: set[Beat],
        lease: Lease,
        on_renewed: Callable[[Renewed], None],
        on_lost: Callable[[BusError], None],
    ) -> None:
        self._beats = beats
        self.lease = lease
        self.on_renewed = on_renewed
        self.on_lost = on_lost
        self.fresh = True
        self.cancelling = False

    def stop(self) -> None:
        """Call back no more; the lease then runs out unless it is released. May be called again."""
        self._beats.discard(self)


class Heartbeat:
    """Renewals are sent together, and one command tells the index when to look at them if no more of them come."""

    def __init__(self, leases: Leases, index: ExecutionIndex, counters: Counters) -> None:
        self._leases = leases
        self._index = index
        self._counters = counters
        self._beats: set[Beat] = set()
        self._news = asyncio.Event()
        self._troubled = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def keep(self, lease: Lease, on_renewed: Callable[[Renewed], None], on_lost: Callable[[BusError], None]) -> Beat:
        """Hold on to a lease until the beat is stopped.

        ``on_renewed`` is told the execution's status with every renewal: that of an owner which missed that it is to
        cancel, too. ``on_lost`` is called once, and the beat is over: with LeaseLostError when another has taken the
        execution over, with ExecutionClosedError when it has ended (its owner may have ended it a moment ago). Both
        are called between two turns of the loop and must not block. Raises BusClosedError.
        """
        if self._closed:
            raise BusClosedError("the bus is closed")
        beat = Beat(self._beats, lease, on_renewed, on_lost)
        self._beats.add(beat)
        self._news.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="heartbeat")
        return beat

    async def aclose(self) -> None:
        self._closed = True
        self._beats.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._pause_seconds()
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            try:
                if loop.time() >= due:
                    await self._renew_all(list(self._beats))
                    due = loop.time() + self._pause_seconds()
                else:
                    await self._announce([beat for beat in self._beats if beat.fresh])
            except BusClosedError:
                return
            except Exception:
                # One run's trouble must not cost all the others their leases.
                self._counters.add("heartbeat_errors")
                logger.exception("heartbeat failed; beating on")
                due = loop.time() + self._pause_seconds()

    def _pause_seconds(self) -> float:
        beats = BEATS_A_LEASE_IN_TROUBLE if self._troubled else BEATS_A_LEASE
        return self._leases.lease_seconds / beats * (0.8 + 0.2 * random.random())

    async def _announce(self, beats: list[Beat]) -> None:
        """The index learns of a run with its lease: one that dies before its first renewal is missed, too."""
        leases = [beat.lease for beat in beats]
        for beat in beats:
            beat.fresh = False
        # What nobody had submitted is not listed yet.
        new = [lease for lease in leases if not lease.status and lease.attempt == 1]
        lease_ms = int(self._leases.lease_seconds * 1000)
        try:
            await asyncio.gather(
                self._index.look_at_all({lease.execution_id: lease.until_ms for lease in leases}),
                *(self._index.note(lease.execution_id, None, lease.until_ms - lease_ms) for lease in new),
            )
        except BusUnavailableError as error:
            logger.debug("the index is not told of new executions: %s; the next heartbeat does", error)

    async def _renew_all(self, beats: list[Beat]) -> None:
        renewals = await asyncio.gather(*(self._renew(beat) for beat in beats))
        failures = [renewal for renewal in renewals if isinstance(renewal, BusUnavailableError)]
        if failures:
            self._counters.add("lease_renew_retries", len(failures))
            if not self._troubled:
                logger.warning("%d leases not renewed: %s; trying on", len(failures), failures[0])
        self._troubled = bool(failures)
        held = [(beat, each) for beat, each in zip(beats, renewals, strict=True) if isinstance(each, Renewed)]
        try:
            await self._schedule(held)
        except BusUnavailableError as error:
            logger.debug("the index is not told of %d renewals: %s", len(held), error)
            self._troubled = True

    async def _renew(self, beat: Beat) -> Renewed | BusError:
        try:
            renewed = await self._leases.renew(beat.lease)
        except (ExecutionClosedError, LeaseLostError) as error:
            self._tell(beat, partial(beat.on_lost, error))
            beat.stop()
            return error
        except BusUnavailableError as error:
            return error
        self._tell(beat, partial(beat.on_renewed, renewed))
        return renewed

    def _tell(self, beat: Beat, call: Callable[[], None]) -> None:
        if beat not in self._beats:
            # Stopped while its renewal was under way.
            return
        try:
            call()
        except Exception:
            self._counters.add("heartbeat_errors")
            logger.exception("execution %s: what a heartbeat called failed", beat.lease.execution_id)

    async def _schedule(self, held: Iterable[tuple[Beat, Renewed]]) -> None:
        """One that cancels is looked at when its grace is over, and a renewal must not put that off."""
        at_ms: dict[str, int] = {}
        for beat, renewed in held:
            if beat not in self._beats:
                continue
            if renewed.status != "cancelling":
                at_ms[beat.lease.execution_id] = renewed.until_ms
            elif not beat.cancelling:
                # We may just have put it off, not knowing: whoever looks now sees when the grace is over.
                beat.cancelling = True
                await self._index.look_at(beat.lease.execution_id, 0)
        await self._index.look_at_all(at_ms)
