"""What a process appends to executions that it does not own: exactly once each, though replies are lost."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tailrace.bus.errors import AppendRefusedError
from tailrace.bus.log.log import Log
from tailrace.bus.model.codec import decode, encode, ts_of
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import Event
from tailrace.bus.redis.retrying import retry_unavailable

APPEND_ATTEMPTS: Final = 5
MAX_PRODUCERS: Final = 1024


@dataclass(slots=True)
class _Producer:
    """One for all that this process appends to an execution: the number of producers of an execution is limited."""

    name: str = field(default_factory=lambda: f"control.{uuid.uuid4().hex[:12]}")
    seq: int = 1
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Appender:
    """Keeps the producers of the executions that were appended to last."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._producers: OrderedDict[str, _Producer] = OrderedDict()

    async def append(self, execution_id: str, events: Sequence[Event]) -> Entry:
        """Append a batch in one step; returns its last event as it stands in the log.

        Raises AppendRefusedError, BusUnavailableError, InvalidEventError.
        """
        ts, limit_bytes = ts_of(time.time_ns() // 1_000_000), self._log.max_event_bytes
        fields = [encode(event, ts=ts, limit_bytes=limit_bytes) for event in events]
        producer = self._producer_for(execution_id)
        async with producer.turn:
            try:
                appended = await retry_unavailable(
                    lambda: self._log.append(execution_id, fields, producer=producer.name, seq=producer.seq),
                    attempts=APPEND_ATTEMPTS,
                )
            except AppendRefusedError:
                raise
            except BaseException:
                # Whether it was appended is not known, and its number must not be given to something else.
                producer.name, producer.seq = _Producer().name, 1
                raise
            producer.seq += len(events)
        return decode(appended.last.encode(), fields[-1], limit_bytes=limit_bytes)

    def _producer_for(self, execution_id: str) -> _Producer:
        producer = self._producers.pop(execution_id, None) or _Producer()
        self._producers[execution_id] = producer
        if len(self._producers) > MAX_PRODUCERS:
            self._producers.popitem(last=False)
        return producer
