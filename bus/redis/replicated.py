"""Commands that return when replicas have what they wrote; over a connection of their own, since WAIT holds it up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tailrace.bus.errors import NotReplicatedError
from tailrace.bus.model.counters import Counters
from tailrace.bus.redis.commands import Line

# Shorter than the silence after which a connection is given up.
WAIT_MS: Final = 1000


class ReplicatedCommands:
    """Raises NotReplicatedError when too few replicas have it in time; it then stands in the primary all the same.

    Only what is written by the very command is waited for. Who sends a command again that may write nothing then has to
    write something else behind it.
    """

    def __init__(self, open_line: Callable[[], Awaitable[Line]], replicas: int, counters: Counters) -> None:
        self._open_line = open_line
        self._replicas = replicas
        self._counters = counters
        self._line: Line | None = None
        self._opening = asyncio.Lock()

    async def command(self, *command: bytes | str | float) -> Any:
        line = self._line
        if line is None:
            async with self._opening:
                if self._line is None:
                    self._line = await self._open_line()
                line = self._line
        reply, replicas = await line.replicated(self._replicas, WAIT_MS, *command)
        if replicas < self._replicas:
            self._counters.add("appends_unreplicated")
            raise NotReplicatedError(f"{replicas} of {self._replicas} replicas have it after {WAIT_MS} ms")
        return reply

    async def aclose(self) -> None:
        if self._line is not None:
            await self._line.aclose()
