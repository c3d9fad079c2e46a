"""What a process appends to executions that it does not run: exactly once each, though replies are lost."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tailrace.bus.errors import AppendRefusedError, BusUnavailableError, ReplyError
from tailrace.bus.log.log import Log
from tailrace.bus.model.codec import decode, encode, ts_of
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import Event
from tailrace.bus.model.retry import Backoff

APPEND_ATTEMPTS: Final = 5
MAX_VOICES: Final = 1024


@dataclass(slots=True)
class _Voice:
    """One producer for all that is said to one execution: an execution has room for so many producers and no more."""

    producer: str = field(default_factory=lambda: f"control.{uuid.uuid4().hex[:12]}")
    seq: int = 1
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Appender:
    """Keeps the voices of the executions that were spoken to last."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._voices: OrderedDict[str, _Voice] = OrderedDict()

    async def append(self, execution_id: str, events: Sequence[Event]) -> Entry:
        """Append a batch in one step; gives its last event as it stands in the log.

        Raises AppendRefusedError, BusUnavailableError, InvalidEventError.
        """
        ts, limit_bytes = ts_of(time.time_ns() // 1_000_000), self._log.max_event_bytes
        fields = [encode(event, ts=ts, limit_bytes=limit_bytes) for event in events]
        voice = self._voice_for(execution_id)
        async with voice.turn:
            try:
                appended = await self._patiently(voice, execution_id, fields)
            except AppendRefusedError:
                raise
            except BaseException:
                # Whether it was appended is not known, and its number must not be given to something else.
                voice.producer, voice.seq = _Voice().producer, 1
                raise
            voice.seq += len(events)
        return decode(appended.encode(), fields[-1], limit_bytes=limit_bytes)

    def _voice_for(self, execution_id: str) -> _Voice:
        voice = self._voices.pop(execution_id, None) or _Voice()
        self._voices[execution_id] = voice
        if len(self._voices) > MAX_VOICES:
            self._voices.popitem(last=False)
        return voice

    async def _patiently(self, voice: _Voice, execution_id: str, fields: list[list[bytes]]) -> Cursor:
        backoff = Backoff()
        for attempt in itertools.count(1):
            try:
                appended = await self._log.append(execution_id, fields, producer=voice.producer, seq=voice.seq)
            except BusUnavailableError as error:
                of_the_key = isinstance(error, ReplyError) and error.is_of_the_key
                if of_the_key or attempt == APPEND_ATTEMPTS:
                    raise
                await asyncio.sleep(backoff.delay_seconds(attempt, random.random))
            else:
                return appended.last
        raise AssertionError("unreachable")
