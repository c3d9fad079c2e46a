"""How an execution stands, for whoever asks: a client of a gateway, or a person at the command line."""

from __future__ import annotations

import asyncio
from typing import Final

from tailrace.bus import Bus, ExecutionUnknownError, State
from tailrace.bus.model.codec import decode
from tailrace.gateway.http.schemas import ExecutionState, Terminal

MAX_STEPS: Final = 1000
# Checkpoints that are no step's output have names which begin with a control character.
_FIRST_PRINTABLE: Final = b" "


async def state_of(bus: Bus, execution_id: str) -> ExecutionState:
    """Raises ExecutionUnknownError, BusUnavailableError; ReplyError when a key is of another type."""
    state, extent, steps = await asyncio.gather(
        bus.state(execution_id), bus.log.extent(execution_id), _finished_steps(bus, execution_id)
    )
    if state is None:
        if extent.latest is None:
            raise ExecutionUnknownError(execution_id)
        # Events that another program wrote, and nothing else.
        state = State(execution_id, "unknown")
    return ExecutionState.of(
        state,
        first=None if extent.earliest is None else str(extent.earliest),
        last=None if extent.latest is None else str(extent.latest),
        terminal=await _terminal(bus, state),
        checkpoints=steps,
    )


async def _finished_steps(bus: Bus, execution_id: str) -> list[str]:
    names = await bus.commands.command("HKEYS", bus.keys.checkpoints(execution_id))
    return [name.decode(errors="replace") for name in names if name >= _FIRST_PRINTABLE][:MAX_STEPS]


async def _terminal(bus: Bus, state: State) -> Terminal | None:
    if state.terminal is None:
        return None
    at = str(state.terminal)
    raw = await bus.commands.command("XRANGE", bus.keys.log(state.execution_id), at, at)
    if not raw:
        return Terminal(id=at, type=f"execution.{state.status}")
    entry = decode(*raw[0], limit_bytes=bus.settings.max_event_bytes)
    return Terminal(id=at, type=entry.type, data=entry.data)
