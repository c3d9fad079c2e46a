"""The activity stream as a log that can be read like an execution's: replayed, watched, its gaps proved."""

from __future__ import annotations

from tailrace.bus.activity.change import MAX_CHANGE_BYTES
from tailrace.bus.log.log import Log
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.retention import Retention
from tailrace.bus.model.state import State
from tailrace.bus.redis.commands import Commands

# What readers that serve any log call this one; no execution is looked up by it.
NAME = "activity"


class _ActivityKeys(Keys):
    def log(self, execution_id: str) -> str:
        del execution_id
        return self.activity()


class ActivityLog(Log):
    """For reading. There is no execution behind it, so it has no state, and never ends."""

    of_executions = False

    def __init__(self, commands: Commands, keys: Keys, *, counters: Counters) -> None:
        super().__init__(
            commands,
            _ActivityKeys(keys.prefix),
            counters=counters,
            retention=Retention(),
            max_event_bytes=MAX_CHANGE_BYTES,
        )

    async def state(self, execution_id: str) -> State | None:
        del execution_id
        return None
