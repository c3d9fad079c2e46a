"""What of a pipeline's events is streamed, and how soon."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Streaming(BaseModel):
    """``enabled`` False leaves only the execution's own life cycle, and questions to people.

    ``buffer_size`` is how many events wait to be appended at most; a full buffer is appended at once.
    ``flush_interval_ms`` is how long events wait for others to share a round trip with; 0 for not at all. What is left
    out stays as it is by default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    enabled: bool = Field(default=True, description="whether more than the life cycle and questions is told")
    emit_progress: bool = Field(default=True, description="whether progress is told")
    buffer_size: int | None = Field(
        None, ge=1, le=100_000, description="most events that wait; a full buffer is appended at once"
    )
    flush_interval_ms: float | None = Field(
        None, ge=0, le=10_000, allow_inf_nan=False, description="how long events wait for others; 0 for not at all"
    )

    def lets_pass(self, event_type: str) -> bool:
        return self.enabled and (self.emit_progress or event_type != "step.progress")

    @property
    def pace(self) -> dict[str, Any]:
        """The arguments of Publisher.tune."""
        linger = None if self.flush_interval_ms is None else self.flush_interval_ms / 1000
        return {"max_buffered_events": self.buffer_size, "linger_seconds": linger}
