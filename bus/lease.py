"""The lease of an execution: who runs it, and with which fence.

Time only says when another may take over; the fence, risen with every taking, says whose appends count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bus.errors import ExecutionClosedError, LeaseHeldError, LeaseLostError, ReplyError
from bus.keys import Keys
from bus.line import Commands
from bus.retention import Retention
from bus.script import Script

LEASE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Lease:
    execution_id: str
    owner: str
    fence: int
    attempt: int


class Leases:
    def __init__(
        self, commands: Commands, keys: Keys, retention: Retention, *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.lease_seconds = lease_seconds
        self._commands = commands
        self._keys = keys
        self._retention = retention
        self._script = Script.load("lease")

    async def take(self, execution_id: str, owner: str, pipeline: str | None = None) -> Lease:
        """Raises LeaseHeldError while another holds it, ExecutionClosedError when it has ended.

        ``pipeline`` is noted in a state that names none yet.
        """
        fence, attempt = await self._run("take", execution_id, owner, "", pipeline or "")
        return Lease(execution_id, owner, int(fence), int(attempt))

    async def renew(self, lease: Lease) -> None:
        """Hold on, and keep a quiet execution from expiring. Raises LeaseLostError, ExecutionClosedError."""
        await self._run("renew", lease.execution_id, lease.owner, lease.fence)

    async def release(self, lease: Lease) -> None:
        """Raises LeaseLostError."""
        await self._run("release", lease.execution_id, lease.owner, lease.fence)

    async def _run(self, action: str, execution_id: str, owner: str, fence: int | str, pipeline: str = "") -> list[int]:
        try:
            reply: list[int] = await self._script.run(
                self._commands,
                self._keys.of_execution(execution_id),
                action,
                owner,
                int(self.lease_seconds * 1000),
                fence,
                self._retention.live_seconds,
                pipeline,
            )
        except ReplyError as error:
            word, _, detail = str(error).partition(" ")
            match word:
                case "CLOSED":
                    raise ExecutionClosedError(execution_id, detail) from None
                case "HELD":
                    raise LeaseHeldError(execution_id, detail) from None
                case "LOST":
                    raise LeaseLostError(execution_id) from None
            raise
        return reply
