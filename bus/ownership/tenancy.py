"""Whose an execution is: the tenant stands in its state from its first moment on, and never changes."""

from __future__ import annotations

from typing import Final

from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script

_CLAIM: Final = Script.load("claim")


async def claim(
    commands: Commands, keys: Keys, execution_id: str, tenant: str | None, *, live_seconds: int, labels: str = ""
) -> str | None:
    """Give an execution without a tenant to the tenant; whose it is, None for one that is there and no tenant's.

    ``labels``, as ``labels_text`` writes them, become its own where it has none; not another tenant's.

    What is claimed and never written expires after ``live_seconds``. Raises BusUnavailableError.
    """
    owner = await _CLAIM.run(
        commands, (keys.log(execution_id), keys.meta(execution_id)), tenant or "", live_seconds, labels
    )
    return owner.decode(errors="replace") or None
