"""What the nodes of a pipeline give, and what they know of those beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """What a node gave: the outputs of its steps by name, its own, and that as the log shows it."""

    name: str = ""
    outputs: dict[str, Any] = field(default_factory=dict)
    output: Any = None
    shown: dict[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    skipped: bool = False


@dataclass(slots=True)
class NodeGroup:
    """A parallel group under way; ``failed`` names the step for which its siblings are cancelled."""

    parent: NodeGroup | None
    failed: str | None = None

    def fail(self, step: str) -> None:
        """A step has failed, and with it this group and those around it; the first is the one to blame."""
        self.failed = self.failed or step
        if self.parent is not None:
            self.parent.fail(step)

    @property
    def to_blame(self) -> str | None:
        if self.failed is not None or self.parent is None:
            return self.failed
        return self.parent.to_blame

    @property
    def told(self) -> dict[str, Any] | None:
        """Why a sibling is cancelled, as its event says it; None when that is not for the group."""
        if self.to_blame is None:
            return None
        message = f"Step {self.to_blame!r} of its group failed."
        return {"reason": "sibling_failed", "message": message, "sibling": self.to_blame}
