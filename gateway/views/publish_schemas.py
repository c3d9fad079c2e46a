"""Publishing over HTTP: what comes in and goes out as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from tailrace.bus.log.log import MAX_BATCH_EVENTS
from tailrace.gateway.http.schemas import Links, ProblemDetails

PRODUCER_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"
# append.lua counts in doubles, exact up to here; the numbers of a whole batch must be.
MAX_SEQ: Final = 2**53 - 1 - MAX_BATCH_EVENTS

ProducerName = Annotated[str, Field(pattern=PRODUCER_PATTERN)]
Seq = Annotated[int, Field(ge=1, le=MAX_SEQ)]


class EventIn(BaseModel):
    """One event to append. Unknown members are refused: a misspelt one would be lost silently."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"type": "step.progress", "step": "fetch", "data": {"progress": 0.4}}]},
    )

    type: str = Field(description="lower-case words with dots, as in 'step.progress'")
    data: Any = Field(None, description="any JSON value; at most TAILRACE_MAX_EVENT_BYTES")
    step: str | None = Field(None, description="1 to 256 characters")
    ts: str | None = Field(None, description="RFC 3339, with an offset or Z; the time of arrival when left out")
    meta: dict[str, Any] | None = Field(None, description="at most 16 KiB as JSON")
    encoding: Literal["base64"] | None = Field(None, description="'base64' when `data` is bytes in base64")
    producer: ProducerName | None = Field(None, description="in a batch: instead of the request's")
    seq: Seq | None = Field(None, description="in a batch: the event's number within its producer")


LineStatus = Literal["written", "duplicate", "refused", "not_tried", "unknown"]


class PublishedLine(BaseModel):
    """What became of one event. ``id`` is its cursor, where it was written now."""

    line: int = Field(description="counted from 1", examples=[1])
    status: LineStatus = Field(
        description="`written` now; `duplicate`, in the log from before; `refused`, see `problem`; `not_tried`, since "
        "an earlier event of its producer was not taken; `unknown`, since Redis stopped answering meanwhile",
        examples=["written"],
    )
    id: str | None = Field(None, examples=["1760000000000-7"])
    problem: ProblemDetails | None = None


class Published(BaseModel):
    """``written`` and ``duplicates`` are in the log; ``failed`` are not, or nobody knows."""

    execution_id: str = Field(examples=["build-7"])
    written: int = Field(examples=[1])
    duplicates: int = Field(examples=[0])
    failed: int = Field(examples=[0])
    items: list[PublishedLine]
    links: Links
