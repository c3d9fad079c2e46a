"""What is asked of executions over HTTP, and what becomes of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tailrace.bus.control import Outcome
from tailrace.bus.model.control_request import GRACE_SECONDS, MAX_GRACE_SECONDS, MAX_NAME_CHARS, MAX_REASON_CHARS
from tailrace.bus.model.lifecycle import Status
from tailrace.gateway.http.schemas import EventItem, Links


class Ask(BaseModel):
    """Unknown members are refused: a misspelt one would be lost silently."""

    model_config = ConfigDict(extra="forbid", strict=True)

    by: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME_CHARS,
        description="who asks, for all to see; only where the gateway asks for no credential, which says it otherwise",
        examples=["ann"],
    )


class CancelBody(Ask):
    reason: str | None = Field(None, min_length=1, max_length=MAX_REASON_CHARS, examples=["wrong input"])
    grace_seconds: float = Field(
        GRACE_SECONDS,
        ge=0,
        le=MAX_GRACE_SECONDS,
        description="how long it may take to stop before it is ended by force",
    )


class PauseBody(Ask):
    """Nothing but who asks."""


class ResumeBody(Ask):
    """Nothing but who asks."""


class SignalBody(Ask):
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS, description="what it waits for", examples=["approval"])
    data: Any = Field(None, description="any JSON, at most 64 KiB", examples=[{"approved": True}])


class Controlled(BaseModel):
    """``outcome`` is the event that answers the request, null as long as none does; the ending answers everything."""

    execution_id: str
    request: str = Field(description="id of the request in the log", examples=["1760000000000-7"])
    status: Status = Field(examples=["cancelled"])
    outcome: EventItem | None
    links: Links

    @classmethod
    def of(cls, outcome: Outcome) -> Controlled:
        event = outcome.event
        return cls(
            execution_id=outcome.execution_id,
            request=outcome.request,
            status=outcome.status,
            outcome=event
            and EventItem(
                id=event.id,
                type=event.type,
                execution_id=outcome.execution_id,
                step=event.step,
                ts=event.ts,
                data=event.data,
                meta=event.meta,
            ),
            links=Links.of(outcome.execution_id),
        )
