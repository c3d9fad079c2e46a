"""What comes in and goes out as JSON: the bodies of the API, as pydantic models that OpenAPI shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tailrace.bus import State
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.entry import GapReason
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.submission import MAX_DELAY_SECONDS

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


class Links(BaseModel):
    self: str
    events: str

    @classmethod
    def of(cls, execution_id: str) -> Links:
        path = f"/v1/executions/{execution_id}"
        return cls(self=path, events=f"{path}/events")


class Submitted(BaseModel):
    execution_id: str = Field(examples=[_ID])
    status: Status = Field(examples=["queued"])
    links: Links


class Terminal(BaseModel):
    """The entry that ended the execution; ``data`` is null once the log has expired."""

    id: str = Field(examples=[_CURSOR])
    type: str = Field(examples=["execution.completed"])
    data: Any = None


class ExecutionState(BaseModel):
    """``first`` and ``last`` are cursors of what the log still holds; ``entries`` counts all that workers wrote."""

    execution_id: str = Field(examples=[_ID])
    status: Status = Field(examples=["running"])
    pipeline: str | None = Field(examples=["document"])
    tenant: str | None = Field(examples=[None])
    owner: str | None = Field(description="who runs it now", examples=["host-4711-0b6f0a.1"])
    attempt: int = Field(description="how often a worker took it", examples=[1])
    created: str | None = Field(examples=[_TS])
    started: str | None = Field(examples=[_TS])
    ended: str | None = Field(examples=[None])
    entries: int = Field(examples=[7])
    first: str | None = Field(examples=["1760000000000-1"])
    last: str | None = Field(examples=[_CURSOR])
    terminal: Terminal | None = None
    checkpoints: list[str] = Field(description="steps whose outputs are kept for a take-over", examples=[["fetch"]])
    links: Links

    @classmethod
    def of(
        cls,
        state: State,
        *,
        first: str | None,
        last: str | None,
        terminal: Terminal | None,
        checkpoints: list[str],
    ) -> ExecutionState:
        return cls(
            execution_id=state.execution_id,
            status=state.status,
            pipeline=state.pipeline,
            tenant=state.tenant,
            owner=state.owner,
            attempt=state.attempt,
            created=_time(state.created_ms),
            started=_time(state.started_ms),
            ended=_time(state.ended_ms),
            entries=state.entries,
            first=first,
            last=last,
            terminal=terminal,
            checkpoints=checkpoints,
            links=Links.of(state.execution_id),
        )


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


class ApiIndex(BaseModel):
    name: str
    version: str
    links: dict[str, str]


def _time(unix_ms: int | None) -> str | None:
    return None if unix_ms is None else ts_of(unix_ms)
