"""What was asked of an execution, and whether it has answered."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from bus import Bus, ExecutionUnknownError
from bus.codec import ts_of
from bus.cursor import parse
from bus.request import Request
from bus.requests import Requests

MAX_SHOWN: Final = 20


class Asked(BaseModel):
    """``reason`` is a cancellation's, ``name`` and ``data`` a signal's."""

    id: str = Field(description="of its event in the log", examples=["1760000000000-7"])
    type: str = Field(examples=["execution.cancel_requested"])
    ts: str = Field(examples=["2026-01-02T03:04:05.678000Z"])
    by: str | None = Field(None, examples=["ops@example.com"])
    reason: str | None = Field(None, examples=["wrong input"])
    name: str | None = None
    data: Any = None
    answered: bool = Field(description="false while whoever runs it has not acted on it")


class AskedList(BaseModel):
    """The newest last."""

    items: list[Asked]


async def asked_of(bus: Bus, execution_id: str) -> AskedList:
    """The newest requests of an execution. Raises ExecutionUnknownError, BusUnavailableError."""
    if not await bus.log.exists(execution_id):
        raise ExecutionUnknownError(execution_id)
    found: list[Request] = []
    requests = Requests(
        bus.commands,
        bus.keys,
        execution_id,
        found.append,
        counters=bus.counters,
        limit_bytes=bus.settings.max_event_bytes,
    )
    await requests.read()
    newest = found[-MAX_SHOWN:]
    answered = await requests.answered(newest)
    state = await bus.state(execution_id)
    # The ending answers everything.
    ended = state is not None and state.ended
    return AskedList(items=[_asked(request, answered=ended or request.id in answered) for request in newest])


def _asked(request: Request, *, answered: bool) -> Asked:
    return Asked(
        id=request.id,
        type=request.type,
        ts=ts_of(parse(request.id).ms),
        by=request.by,
        reason=request.reason,
        name=request.name or None,
        data=request.data,
        answered=answered,
    )
