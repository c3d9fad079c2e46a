"""The requests that an execution was sent, and whether it has answered them."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from tailrace.bus.errors import ExecutionUnknownError
from tailrace.bus.log.log import Log
from tailrace.bus.model.codec import ts_of
from tailrace.bus.model.control_request import ControlRequest
from tailrace.bus.model.cursor import parse
from tailrace.bus.ownership.control_stream import ControlStream

MAX_SHOWN: Final = 20


class RequestItem(BaseModel):
    """``reason`` is a cancellation's, ``name`` and ``data`` a signal's."""

    id: str = Field(description="of its event in the log", examples=["1760000000000-7"])
    type: str = Field(examples=["execution.cancel_requested"])
    ts: str = Field(examples=["2026-01-02T03:04:05.678000Z"])
    by: str | None = Field(None, examples=["ops@example.com"])
    reason: str | None = Field(None, examples=["wrong input"])
    name: str | None = None
    data: Any = None
    answered: bool = Field(description="false until the execution's owner has acted on it")


class RequestList(BaseModel):
    """The newest last."""

    items: list[RequestItem]


async def requests_of(log: Log, execution_id: str) -> RequestList:
    """The newest requests of an execution. Raises ExecutionUnknownError, BusUnavailableError."""
    if not await log.exists(execution_id):
        raise ExecutionUnknownError(execution_id)
    found: list[ControlRequest] = []
    requests = ControlStream(
        log.commands,
        log.keys,
        execution_id,
        found.append,
        counters=log.counters,
        limit_bytes=log.max_event_bytes,
    )
    await requests.read()
    newest = found[-MAX_SHOWN:]
    answered = await requests.answered(newest)
    state = await log.state(execution_id)
    # The ending answers everything.
    ended = state is not None and state.ended
    return RequestList(items=[_item(request, answered=ended or request.id in answered) for request in newest])


def _item(request: ControlRequest, *, answered: bool) -> RequestItem:
    return RequestItem(
        id=request.id,
        type=request.type,
        ts=ts_of(parse(request.id).ms),
        by=request.by,
        reason=request.reason,
        name=request.name or None,
        data=request.data,
        answered=answered,
    )
