"""Whose an execution is: the tenant stands in its state from its first moment on, and never changes."""

from __future__ import annotations

from typing import Final

from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script

_CLAIM: Final = Script.load("claim")


async def claim(commands: Commands, keys: Keys, execution_id: str, tenant: str, live_seconds: int) -> str | None:
    """Give an execution without a tenant to the tenant; whose it is, None for one that is there and no tenant's.

    What is claimed and never written expires after ``live_seconds``. Raises BusUnavailableError.
    """
    owner = await _CLAIM.run(commands, (keys.log(execution_id), keys.meta(execution_id)), tenant, live_seconds)
    return owner.decode(errors="replace") or None
