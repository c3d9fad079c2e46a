"""How an execution stands, for a client of a gateway or a person at the command line."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

from pydantic import BaseModel, Field

from tailrace.bus.errors import ExecutionUnknownError
from tailrace.bus.log.log import Log
from tailrace.bus.model.codec import decode, ts_of
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.state import State

MAX_STEPS: Final = 1000
# Checkpoints that are no step's output have names which begin with a control character.
_FIRST_PRINTABLE: Final = b" "
_CURSOR: Final = "1760000000000-7"
_TS: Final = "2026-01-02T03:04:05.678000Z"


class ExecutionSummary(BaseModel):
    """``entries`` counts all that workers wrote."""

    execution_id: str = Field(examples=["build-7"])
    status: Status = Field(examples=["running"])
    pipeline: str | None = Field(examples=["document"])
    tenant: str | None = Field(examples=[None])
    owner: str | None = Field(description="who runs it now", examples=["host-4711-0b6f0a.1"])
    attempt: int = Field(description="how often a worker took it", examples=[1])
    created: str | None = Field(examples=[_TS])
    started: str | None = Field(examples=[_TS])
    ended: str | None = Field(examples=[None])
    entries: int = Field(examples=[7])
    labels: dict[str, str] = Field(default_factory=dict, examples=[{"user": "ann"}])

    @classmethod
    def of(cls, state: State, **more: Any) -> Self:
        """``more`` are the members that a subclass adds."""
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
            labels=dict(state.labels),
            **more,
        )


class Terminal(BaseModel):
    """The entry that ended the execution; ``data`` is null once the log has expired."""

    id: str = Field(examples=[_CURSOR])
    type: str = Field(examples=["execution.completed"])
    data: Any = None


class ExecutionState(ExecutionSummary):
    """``first`` and ``last`` are cursors of what the log still holds; ``entries`` counts all that workers wrote."""

    first: str | None = Field(examples=["1760000000000-1"])
    last: str | None = Field(examples=[_CURSOR])
    terminal: Terminal | None = None
    checkpoints: list[str] = Field(description="steps whose outputs are kept for a take-over", examples=[["fetch"]])


async def state_of(log: Log, execution_id: str) -> ExecutionState:
    """Raises ExecutionUnknownError, BusUnavailableError; ReplyError when a key is of another type."""
    state, extent, steps = await asyncio.gather(
        log.state(execution_id), log.extent(execution_id), _finished_steps(log, execution_id)
    )
    if state is None:
        if extent.latest is None:
            raise ExecutionUnknownError(execution_id)
        # Events that another program wrote, and nothing else.
        state = State(execution_id, "unknown")
    first, last = extent.earliest, extent.latest
    if state.terminal is not None and last is not None and last > state.terminal:
        # What other programs wrote behind the ending is no part of the log.
        last = state.terminal
        first = first if first is not None and first <= last else None
        last = last if first is not None else None
    return ExecutionState.of(
        state,
        first=None if first is None else str(first),
        last=None if last is None else str(last),
        terminal=await _terminal(log, state),
        checkpoints=steps,
    )


async def _finished_steps(log: Log, execution_id: str) -> list[str]:
    names = await log.commands.command("HKEYS", log.keys.checkpoints(execution_id))
    return [name.decode(errors="replace") for name in names if name >= _FIRST_PRINTABLE][:MAX_STEPS]


async def _terminal(log: Log, state: State) -> Terminal | None:
    if state.terminal is None:
        return None
    at = str(state.terminal)
    raw = await log.commands.command("XRANGE", log.keys.log(state.execution_id), at, at)
    if not raw:
        return Terminal(id=at, type=f"execution.{state.status}")
    entry = decode(*raw[0], limit_bytes=log.max_event_bytes)
    return Terminal(id=at, type=entry.type, data=entry.data)


def _time(unix_ms: int | None) -> str | None:
    return None if unix_ms is None else ts_of(unix_ms)
