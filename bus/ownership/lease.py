"""The lease of an execution: who runs it, and with which fence.

Time only says when another may take over; the fence, risen with every taking, says whose appends count, and its secret
that they are his. Every way of taking over from somebody else passes one gate (gate.py), here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tailrace.bus.errors import ExecutionClosedError, LeaseHeldError, LeaseLostError, NotOrphanedError, ReplyError
from tailrace.bus.model.fence import Fence
from tailrace.bus.model.fields import number
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tailrace.bus.ownership.gate import TakeOverGate
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script

# Longer than most failovers and restarts of Redis; a dead process is found by its session, long before.
LEASE_SECONDS: Final = 30.0
# A decision takes two round trips; who has not made it by then is gone, too.
HEAL_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Lease:
    """``status`` is what the execution was when the lease was taken, '' for one that had none yet.

    ``waited`` says that it was waiting for a worker, not lost by one. ``belongings`` are fields and values of the state
    that say whose it is. ``until_ms`` is when the lease runs out unless it
    is renewed, by Redis's clock; ``asked`` when it was asked for, by this process's monotonic clock, in seconds.
    """

    execution_id: str
    owner: str
    fence: Fence
    attempt: int
    status: str = ""
    until_ms: int = 0
    waited: bool = False
    asked: float = field(default=0.0, compare=False)
    belongings: tuple[bytes, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Renewed:
    """``status`` tells an owner who missed it that it is to cancel. ``asked`` as in Lease."""

    status: str
    until_ms: int
    asked: float


@dataclass(frozen=True, slots=True)
class Orphan:
    """An execution whose owner is gone, in the hands of a healer who holds ``lease`` to tell what becomes of it.

    ``attempt`` of the lease is that of the lost owner. ``max_attempts`` is None when no worker has stored it.
    ``submitted`` is False for an execution that a program ran by itself: no worker can run it again. ``forced`` says
    that the owner is alive but did not cancel within its grace.
    """

    lease: Lease
    lost_owner: str
    max_attempts: int | None
    submitted: bool
    forced: bool = False


class Leases:
    def __init__(
        self,
        commands: Commands,
        keys: Keys,
        retention: Retention,
        *,
        lease_seconds: float = LEASE_SECONDS,
        gate: TakeOverGate | None = None,
        session: str = "",
    ) -> None:
        """``session`` is the name of this process's own; ``gate`` is asked before anything is taken from its owner."""
        self.lease_seconds = lease_seconds
        self.live_seconds = retention.live_seconds
        self.gate = gate
        self._session = session
        self._commands = commands
        self._keys = keys
        self._retention = retention
        self._script = Script.load("lease")

    async def take(
        self, execution_id: str, owner: str, pipeline: str | None = None, *, max_attempts: int | None = None
    ) -> Lease:
        """Raises LeaseHeldError while another holds it, ExecutionClosedError when it has ended.

        ``pipeline`` is stored if the state names none yet; ``max_attempts`` is stored for the healer.
        """
        secret, asked = secrets.token_hex(8), time.monotonic()
        fence, attempt, status, until, waited, belongings = await self._take_over(
            "take", execution_id, owner, secret=secret, pipeline=pipeline or "", max_attempts=max_attempts
        )
        return Lease(
            execution_id,
            owner,
            Fence(int(fence), secret),
            int(attempt),
            status.decode(),
            int(until),
            bool(waited),
            asked,
            tuple(belongings),
        )

    async def renew(self, lease: Lease, restore_status: str = "") -> Renewed:
        """Hold on, and keep a quiet execution from expiring; a lost state is restored: its status, and whose it is.

        Raises LeaseLostError, ExecutionClosedError.
        """
        asked = time.monotonic()
        status, until = await self._run(
            "renew",
            lease.execution_id,
            lease.owner,
            lease.fence,
            secret=lease.fence.secret,
            status=restore_status,
            belongings=(b"attempt", b"%d" % lease.attempt, *lease.belongings),
        )
        return Renewed(status.decode(), int(until), asked)

    async def heal(
        self,
        execution_id: str,
        healer: str,
        *,
        cancel_after_ms: int | None = None,
        dead_session: str = "",
        forgotten: bool = False,
        overdue: bool = False,
    ) -> Orphan:
        """Step in for an owner that is gone; of many who try at once, one gets it, for as long as a decision takes.

        From ``cancel_after_ms`` on (Unix milliseconds by Redis's clock), also for an owner that lives, if it was told
        to cancel; and for one whose session is ``dead_session``. With ``forgotten``, also for one that waits for a
        worker though it was never submitted; with ``overdue``, for any that waits. Each call needs a ``healer``'s name
        of its own.

        Raises LeaseHeldError while the owner (or another healer) holds it, NotOrphanedError when nothing is to be
        healed, ExecutionClosedError.
        """
        secret = secrets.token_hex(8)
        fence, attempt, status, until, lost, most, submitted, forced = await self._take_over(
            "heal",
            execution_id,
            healer,
            secret=secret,
            seconds=min(HEAL_SECONDS, self.lease_seconds),
            cancel_after_ms="" if cancel_after_ms is None else cancel_after_ms,
            dead_session=dead_session,
            waiting="2" if overdue else "1" if forgotten else "",
        )
        lease = Lease(execution_id, healer, Fence(int(fence), secret), int(attempt), status.decode(), int(until))
        return Orphan(
            lease,
            lost.decode(errors="replace"),
            number(most),
            submitted=bool(submitted),
            forced=bool(forced),
        )

    async def release(self, lease: Lease, *, unspent: bool = False) -> None:
        """With ``unspent``, its attempt does not count. Doing it twice is doing it once. Raises LeaseLostError."""
        waiting = "1" if unspent else ""
        await self._run(
            "release", lease.execution_id, lease.owner, lease.fence, secret=lease.fence.secret, waiting=waiting
        )

    async def _take_over(self, action: str, execution_id: str, owner: str, **options: Any) -> Any:
        """Try without touching another's lease first; one that has run out is taken when the gate is open."""
        try:
            return await self._run(action, execution_id, owner, **options)
        except LeaseHeldError as held:
            if held.until_ms > held.now_ms or (self.gate is not None and not await self.gate.is_open(held.now_ms)):
                raise
        return await self._run(action, execution_id, owner, **options, from_others=True)

    async def _run(
        self,
        action: str,
        execution_id: str,
        owner: str,
        fence: int | str = "",
        *,
        secret: str,
        pipeline: str = "",
        max_attempts: int | None = None,
        seconds: float | None = None,
        cancel_after_ms: int | str = "",
        dead_session: str = "",
        from_others: bool = False,
        status: str = "",
        waiting: str = "",
        belongings: Sequence[bytes] = (),
    ) -> Any:
        try:
            return await self._script.run(
                self._commands,
                self._keys.of_execution(execution_id),
                action,
                owner,
                int((self.lease_seconds if seconds is None else seconds) * 1000),
                fence if fence == "" else int(fence),
                self._retention.live_seconds,
                pipeline,
                "" if max_attempts is None else max_attempts,
                cancel_after_ms,
                secret,
                # A healer's lease is short, and its session may serve others: its death is seen by the lease.
                self._session if action in {"take", "renew"} else "",
                "1" if from_others else "",
                dead_session,
                status,
                waiting,
                *belongings,
            )
        except ReplyError as error:
            word, _, detail = str(error).partition(" ")
            match word:
                case "CLOSED":
                    raise ExecutionClosedError(execution_id, detail) from None
                case "HELD":
                    until, now, holder = detail.split(" ", 2)
                    raise LeaseHeldError(execution_id, holder, number(until) or 0, now_ms=int(now)) from None
                case "LOST":
                    raise LeaseLostError(execution_id) from None
                case "SOUND":
                    raise NotOrphanedError(execution_id, detail) from None
            raise
