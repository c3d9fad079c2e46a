"""Viewers that are cut again and again and go on where they were, on whichever gateway there is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.sse_client import ConnectionBrokenError, SseStream, open_stream
from tests.e2e.sse_frames import Frame


@dataclass
class Follower:
    """Follows one run. ``cut_after_bytes`` draws, for each connection, where it is cut (None: not by us)."""

    run: str
    urls: Sequence[str]
    chance: random.Random
    cut_after_bytes: Callable[[random.Random], int | None]
    query: dict[str, str] = field(default_factory=dict)
    receive_buffer_bytes: int | None = None
    pause_seconds: float = 0.0

    events: list[tuple[str, str, Any]] = field(default_factory=list)
    controls: list[Frame] = field(default_factory=list)
    last_id: str | None = None
    connections: int = 0
    cuts_in_mid_frame: int = 0
    refusals: int = 0
    ended: Frame | None = None
    _heartbeats_before: int = 0
    _stream: SseStream | None = None

    @property
    def gaps(self) -> list[Frame]:
        return [frame for frame in self.controls if frame.name == "stream.gap"]

    @property
    def ids(self) -> list[str]:
        return [entry_id for entry_id, _, _ in self.events]

    async def follow(self) -> None:
        """Until ``stream.end``, or a 204 because that was lost with a cut."""
        while self.ended is None:
            try:
                async with open_stream(
                    self.chance.choice(self.urls),
                    self.run,
                    after=self.last_id,
                    query=self.query,
                    receive_buffer_bytes=self.receive_buffer_bytes,
                ) as stream:
                    if stream.status == 204:
                        # The terminal event was got; what says so too was cut off.
                        self.ended = Frame(None, "stream.end")
                        return
                    if stream.status == 200:
                        self.connections += 1
                        await self._read(stream)
                    else:
                        # Redis is away; anything else is no reason to come again.
                        assert stream.status == 503, (stream.status, await stream.body())
                        await self._wait()
            except (ConnectionBrokenError, OSError):
                # Its gateway was killed, or is not up again yet.
                await self._wait()

    async def _wait(self) -> None:
        self.refusals += 1
        await asyncio.sleep(self.chance.uniform(0.02, 0.2))

    @property
    def heartbeats(self) -> int:
        """Of all its connections so far, the present one included."""
        return self._heartbeats_before + (self._stream.frames_reader.heartbeats if self._stream else 0)

    async def _read(self, stream: SseStream) -> None:
        self._heartbeats_before, self._stream = self.heartbeats, stream
        budget = self.cut_after_bytes(self.chance)
        while True:
            if self.pause_seconds and self.chance.random() < 0.02:
                await asyncio.sleep(self.pause_seconds)
            data = await stream.read()
            if not data:
                # Where Redis is away, too: a stream that only says so, and when to come again.
                sent_away = bool(self.controls) and "retry_ms" in self.controls[-1].payload
                assert self.ended is not None or sent_away, f"closed without a word after {self.last_id}"
                return
            if budget is not None and len(data) >= budget:
                self._take(stream, data[:budget])
                self.cuts_in_mid_frame += bool(stream.frames_reader.unfinished)
                return
            budget = None if budget is None else budget - len(data)
            self._take(stream, data)

    def _take(self, stream: SseStream, data: bytes) -> None:
        for frame in stream.frames_reader.feed(data):
            if frame.is_control:
                self.controls.append(frame)
                if frame.name == "stream.end":
                    self.ended = frame
                self.last_id = frame.id or self.last_id
                continue
            assert frame.id is not None
            self.last_id = frame.id
            assert frame.payload["execution_id"] == self.run, frame
            self.events.append((frame.id, frame.name, frame.payload["data"]))
