"""An owner's hold on an execution: its lease, from taking it to letting go of it or losing it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tailrace.bus.errors import BusError, BusUnavailableError, LeaseLostError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.fence import Fence
from tailrace.bus.ownership.beat import Beat
from tailrace.bus.ownership.heartbeat import Heartbeat
from tailrace.bus.ownership.lease import Lease, Leases, Renewed
from tailrace.bus.redis.retrying import retry_unavailable

logger = logging.getLogger(__name__)

# After this time healers have long decided about it.
UNSPENT_SECONDS: Final = 3600.0


class HeldLease:
    def __init__(
        self,
        leases: Leases,
        heartbeat: Heartbeat,
        *,
        counters: Counters,
        is_over: Callable[[], bool],
        is_acting: Callable[[], bool],
        on_lost: Callable[[], None],
        on_uncertain: Callable[[], None],
        on_cancelling: Callable[[], None],
    ) -> None:
        """``on_cancelling`` is called with every renewal of one that is to be cancelled.

        ``on_uncertain`` is called when the lease could not be renewed for so long that another may soon take over; when
        that is about to happen and the body still ``is_acting``, the process has to end.
        ``on_lost`` is called when somebody else has taken it or ended it, as ``lost`` then says; not when it
        ``is_over``, because its owner has ended it.
        """
        self.lost: BusError | None = None
        # Set when renewals failed for too long; the lease may still be ours when Redis answers again.
        self.uncertain = False
        self._leases = leases
        self._heartbeat = heartbeat
        self._counters = counters
        self._is_over = is_over
        self._is_acting = is_acting
        self._on_lost = on_lost
        self._on_uncertain = on_uncertain
        self._on_cancelling = on_cancelling
        self._lease: Lease | None = None
        self._beat: Beat | None = None

    @property
    def attempt(self) -> int:
        return self._lease.attempt if self._lease is not None else 0

    @property
    def fence(self) -> Fence:
        return self._lease.fence if self._lease is not None else Fence(0, "")

    def note_status(self, status: str) -> None:
        """What renewals restore where the state was lost."""
        if self._beat is not None:
            self._beat.status = status

    async def take(self, execution_id: str, owner: str, pipeline: str | None, max_attempts: int | None) -> Lease:
        """Raises LeaseHeldError, ExecutionClosedError."""
        self._lease = lease = await self._leases.take(execution_id, owner, pipeline, max_attempts=max_attempts)
        self._beat = self._heartbeat.keep(lease, self._renewed, self._lose, self._doubt, self._is_acting)
        return lease

    def relax(self) -> None:
        """Renew it no more: there is nothing left to hold."""
        if self._beat is not None:
            self._beat.stop()

    async def release(self, *, unspent: bool = False) -> None:
        """Give it up, so that another can take it at once.

        With ``unspent``, its attempt does not count, and it is given up in the background as soon as Redis answers.
        """
        if self._beat is not None:
            self._beat.stop(unended=True)
        if self._lease is None or self.lost is not None:
            return
        if unspent:
            self._heartbeat.later(self._release_unspent(self._lease))
            return
        try:
            await self._leases.release(self._lease)
        except (BusUnavailableError, LeaseLostError) as error:
            logger.debug("execution %s: lease not released: %s", self._lease.execution_id, error)

    async def _release_unspent(self, lease: Lease) -> None:
        try:
            await retry_unavailable(lambda: self._leases.release(lease, unspent=True), seconds=UNSPENT_SECONDS)
        except BusError as error:
            # Somebody has taken it, or Redis is away for good.
            logger.debug("execution %s: lease not released: %s", lease.execution_id, error)

    def _renewed(self, renewed: Renewed) -> None:
        if renewed.status == "cancelling":
            self._on_cancelling()

    def _doubt(self) -> None:
        if self._is_over():
            return
        self.uncertain = True
        self._on_uncertain()

    def _lose(self, error: BusError) -> None:
        if self._is_over():
            return
        self.lost = error
        self._counters.add("leases_lost")
        logger.error("%s; stopping", error)
        self._on_lost()
