"""One execution's share of its process's heartbeat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tailrace.bus.errors import BusError
from tailrace.bus.ownership.lease import Lease, Renewed


class Beat:
    """One execution's share of the heartbeat; ``stop`` it before the lease is released.

    ``status`` is what the owner knows of the execution: renewals restore it where it was lost.
    """

    __slots__ = (
        "_drop", "announced", "asked", "cancelling", "is_acting", "lease", "loop", "on_lost", "on_renewed",
        "on_uncertain", "renewing", "status", "stopped", "uncertain", "unstoppable",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - the heartbeat's own parts, and only that makes one
        self,
        lease: Lease,
        on_renewed: Callable[[Renewed], None],
        on_lost: Callable[[BusError], None],
        on_uncertain: Callable[[], None],
        is_acting: Callable[[], bool],
        drop: Callable[[Beat, bool], None],
    ) -> None:
        self._drop = drop
        self.lease = lease
        self.on_renewed = on_renewed
        self.on_lost = on_lost
        self.on_uncertain = on_uncertain
        self.is_acting = is_acting
        self.loop = asyncio.get_running_loop()
        # When the last renewal that succeeded was sent: from then on the lease counts.
        self.asked = lease.asked or time.monotonic()
        self.status = ""
        self.announced = False
        self.cancelling = False
        self.renewing = False
        self.stopped = False
        self.uncertain = False
        self.unstoppable = False

    def stop(self, *, unended: bool = False) -> None:
        """Call back no more; the lease then runs out unless it is released. May be called again.

        A healer looks at what is left ``unended``, also if it was let go before the index had heard of it.
        """
        self.stopped = True
        self._drop(self, unended)
