"""The only place a Redis key is spelled. Pure.

Every key of an execution carries its id as hash tag, so that all of them live in one cluster slot.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    prefix: str = "tr"

    def log(self, execution_id: str) -> str:
        return f"{self.prefix}:{{{execution_id}}}:log"

    def meta(self, execution_id: str) -> str:
        return f"{self.prefix}:{{{execution_id}}}:meta"

    def control(self, execution_id: str) -> str:
        return f"{self.prefix}:{{{execution_id}}}:ctl"

    def checkpoints(self, execution_id: str) -> str:
        return f"{self.prefix}:{{{execution_id}}}:ckpt"

    def of_execution(self, execution_id: str) -> tuple[str, str, str, str]:
        """Log, meta, control and checkpoints: what expires together."""
        return (
            self.log(execution_id),
            self.meta(execution_id),
            self.control(execution_id),
            self.checkpoints(execution_id),
        )

    def jobs(self, queue: str) -> str:
        return f"{self.prefix}:{{q:{queue}}}:jobs"
