"""What comes in and goes out as JSON: the bodies of the API, as pydantic models that OpenAPI shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tailrace.bus.model.entry import GapReason
from tailrace.bus.model.labels import MAX_LABELS
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.submission import MAX_DELAY_SECONDS
from tailrace.bus.queries import state
from tailrace.gateway.http.links import link

_ID = "019a5c3e-7d51-7c3a-9f5e-0b6f0a9d2c11"
_CURSOR = "1760000000000-7"
_TS = "2026-01-02T03:04:05.678000Z"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


class Submit(BaseModel):
    """Work for a worker. Unknown members are refused: a misspelt one would be lost silently."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"pipeline": "document", "input": {"path": "/srv/reports/may.md"}}]},
    )

    pipeline: Name = Field(description="which pipeline is to run")
    input: dict[str, Any] = Field(default_factory=dict, description="what the pipeline gets; at most 256 KiB of JSON")
    execution_id: str | None = Field(None, description="chosen by the caller, so that a retry submits nothing twice")
    queue: Name = Field("default", description="which workers may take it")
    concurrency_key: str | None = Field(
        None, min_length=1, max_length=256, description="of a tenant's executions with the same one, one is in flight"
    )
    max_attempts: int | None = Field(None, ge=1, le=1000, description="lowers how often the pipeline may be begun")
    delay_seconds: float = Field(0.0, ge=0, le=MAX_DELAY_SECONDS, description="when to begin it, from now")
    timeout_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_DELAY_SECONDS,
        description="it ends in `execution.timed_out` after so long from now, the queue included",
    )
    start_within_seconds: float | None = Field(
        None,
        gt=0,
        le=MAX_DELAY_SECONDS,
        description="so does one that no worker has begun so long after its delay (`not_started`)",
    )
    labels: dict[str, str] = Field(
        default_factory=dict,
        max_length=MAX_LABELS,
        description="whose it is, in words of the application; lists are asked for by them",
        examples=[{"user": "ann"}],
    )


class Links(BaseModel):
    self: str
    events: str

    @classmethod
    def of(cls, execution_id: str) -> Links:
        path = link(f"/v1/executions/{execution_id}")
        return cls(self=path, events=f"{path}/events")


class Submitted(BaseModel):
    execution_id: str = Field(examples=[_ID])
    status: Status = Field(examples=["queued"])
    links: Links


class ExecutionSummary(state.ExecutionSummary):
    links: Links


class ExecutionState(state.ExecutionState):
    links: Links


class ListLinks(BaseModel):
    next: str | None = Field(description="the next page; null when there is none")


class ExecutionList(BaseModel):
    """The newest first. A page may have fewer than ``limit``, even none: only where ``next`` is null is the end."""

    items: list[ExecutionSummary]
    next: str | None = Field(description="the cursor of the next page", examples=["1760000000000-build-7"])
    links: ListLinks


class EventItem(BaseModel):
    """One event. ``encoding`` is there, and ``base64``, where ``data`` was bytes; ``meta`` where there is some."""

    id: str = Field(examples=[_CURSOR])
    type: str = Field(examples=["step.progress"])
    execution_id: str = Field(examples=[_ID])
    step: str | None = Field(None, examples=["fetch"])
    ts: str = Field(examples=[_TS])
    data: Any = Field(examples=[{"progress": 0.4}])
    meta: dict[str, Any] | None = None
    encoding: Literal["base64"] | None = None


class GapItem(BaseModel):
    """Loss, told: what lay between ``requested`` and the first item is not in the log any more."""

    requested: str
    earliest: str | None
    latest: str | None
    reason: GapReason


class PageLinks(BaseModel):
    next: str | None = Field(description="where to read on; null when nothing can follow any more")


class EventPage(BaseModel):
    """A stretch of the log. ``more`` says that the log has more now, ``ended`` that nothing can follow ``next``."""

    items: list[EventItem]
    gap: GapItem | None = Field(None, description="comes before all items; absent when nothing is missing")
    next: str = Field(description="the cursor to read on after", examples=[_CURSOR])
    more: bool
    ended: bool
    links: PageLinks


class FieldError(BaseModel):
    field: str
    code: str
    detail: str


class ProblemDetails(BaseModel):
    """RFC 9457. Further members are told by ``code``, such as ``size_bytes`` and ``limit_bytes``."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    code: str = Field(description="stable; what a program goes by", examples=["execution_unknown"])
    detail: str
    field: str | None = Field(None, description="the input to blame")
    errors: list[FieldError] | None = None


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready", "not_ready"]
    tail: str | None = Field(None, description="how streams are watched", examples=["tracking", "blocking"])
    reasons: list[str] = Field(default_factory=list, description="why it is not ready")
    degraded: list[str] = Field(default_factory=list, description="what works, but costs more than it should")


class ApiIndex(BaseModel):
    name: str
    version: str
    links: dict[str, str]
