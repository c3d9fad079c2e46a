"""Requests to executions over HTTP and WebSocket, and what comes of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tailrace.bus.control import Control, Outcome
from tailrace.bus.model.control_request import GRACE_SECONDS, MAX_GRACE_SECONDS, MAX_NAME_CHARS, MAX_REASON_CHARS
from tailrace.bus.model.lifecycle import Status
from tailrace.gateway.http.schemas import EventItem, Links


class ControlBody(BaseModel):
    """Unknown members are refused: a misspelt one would be lost silently."""

    model_config = ConfigDict(extra="forbid", strict=True)

    by: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME_CHARS,
        description="who asks, for all to see; only where the gateway asks for no credential, which says it otherwise",
        examples=["ann"],
    )

    @abstractmethod
    async def send(self, control: Control, execution_id: str, by: str | None) -> Outcome:
        """Raises what ``control`` does."""


class CancelBody(ControlBody):
    reason: str | None = Field(None, min_length=1, max_length=MAX_REASON_CHARS, examples=["wrong input"])
    grace_seconds: float = Field(
        GRACE_SECONDS,
        ge=0,
        le=MAX_GRACE_SECONDS,
        description="how long it may take to stop before it is ended by force",
    )

    async def send(self, control: Control, execution_id: str, by: str | None) -> Outcome:
        return await control.cancel(execution_id, reason=self.reason, grace_seconds=self.grace_seconds, by=by)


class PauseBody(ControlBody):
    """Nothing but who asks."""

    async def send(self, control: Control, execution_id: str, by: str | None) -> Outcome:
        return await control.pause(execution_id, by=by)


class ResumeBody(ControlBody):
    """Nothing but who asks."""

    async def send(self, control: Control, execution_id: str, by: str | None) -> Outcome:
        return await control.resume(execution_id, by=by)


class SignalBody(ControlBody):
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS, description="what it waits for", examples=["approval"])
    data: Any = Field(None, description="any JSON, at most 64 KiB", examples=[{"approved": True}])

    async def send(self, control: Control, execution_id: str, by: str | None) -> Outcome:
        return await control.signal(execution_id, self.name, self.data, by=by)


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
            outcome=None if event is None else EventItem.model_validate(event.shown(outcome.execution_id)),
            links=Links.of(outcome.execution_id),
        )
