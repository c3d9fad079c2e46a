"""The signals of an execution, kept until its body asks for them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from tailrace.bus.model.control_request import ControlRequest
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import START, Cursor, parse

logger = logging.getLogger(__name__)

# As many requests as the control stream keeps: who never asks for signals must not hold more of them than Redis.
MAX_SIGNALS: Final = 1024


@dataclass(frozen=True, slots=True)
class Signal:
    """``request`` is the id of the entry in the log that asked for it; ``by`` says who sent it, where that is known."""

    name: str
    data: Any
    by: str | None
    request: str


class SignalInbox:
    """In the order in which they were sent, each given out once. The oldest gives way when there are too many.

    ``given`` are the last requests that attempts of this execution were given for good, by name: they and those before
    them are not taken in again.
    """

    def __init__(self, execution_id: str, counters: Counters) -> None:
        self._execution_id = execution_id
        self._counters = counters
        self._signals: deque[Signal] = deque()
        self.given: dict[str, Cursor] = {}
        self._news = asyncio.Event()

    def put(self, request: ControlRequest) -> None:
        if parse(request.id) <= self.given.get(request.name, START):
            return
        if len(self._signals) == MAX_SIGNALS:
            lost = self._signals.popleft()
            self._counters.add("signals_dropped")
            logger.warning(
                "execution %s: dropped signal %r, which its code has not read: too many are waiting",
                self._execution_id,
                lost.name,
            )
        self._signals.append(Signal(request.name, request.data, request.by, request.id))
        self.wake()

    def take(self, name: str) -> Signal | None:
        """The oldest of that name."""
        for signal in self._signals:
            if signal.name == name:
                self._signals.remove(signal)
                return signal
        return None

    def put_back(self, signal: Signal) -> None:
        """It was not given out after all."""
        self._signals.appendleft(signal)
        self.wake()

    def note_given(self, signal: Signal) -> dict[str, str]:
        """Note that it is given out for good. Returns what is given by now, in as few names as Redis keeps requests."""
        self.given[signal.name] = parse(signal.request)
        newest = sorted(self.given.items(), key=lambda item: item[1])[-MAX_SIGNALS:]
        self.given = dict(newest)
        return {name: str(cursor) for name, cursor in newest}

    def wake(self) -> None:
        """Have all who wait look again."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def wait(self) -> None:
        await self._news.wait()
