"""Stand-ins for what a worker talks to."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tailrace.bus.ownership.checkpoints import Restored, unpack
from tailrace.bus.ownership.left_calls import LeftCalls
from tailrace.workers.definition.backing import Answer
from tailrace.workers.definition.context import Context
from tailrace.workers.running.live_step import LiveStep, Notes
from tests.patience import patient

PATIENCE_SECONDS = 30.0


@dataclass
class RecordedRun:
    """An execution that is nowhere: keeps what its steps say and store, and hands out answers."""

    restored: Restored = field(default_factory=Restored)
    id: str = "run-1"
    attempt: int = 1
    max_event_bytes: int = 262_144
    backlogged: bool = False
    left_calls: LeftCalls = field(default_factory=LeftCalls)
    events: list[tuple[str, Any, str | None]] = field(default_factory=list)
    metas: list[dict[str, Any] | None] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    stated: dict[str, int] = field(default_factory=dict)
    pauses: int = 0
    _given: defaultdict[str, asyncio.Queue[Answer]] = field(default_factory=lambda: defaultdict(asyncio.Queue))

    async def emit(
        self, event_type: str, data: Any = None, *, step: str | None = None, meta: dict[str, Any] | None = None
    ) -> None:
        self.events.append((event_type, data, step))
        self.metas.append(meta)

    async def pause_point(self) -> None:
        self.pauses += 1

    async def state_once(self, event_type: str, data: Any, *, step: str, series: str, number: int) -> None:
        # As the log does: what this series has said is dropped, and it leaves no number out.
        last = self.stated.get(series, 0)
        if number > last:
            assert number == last + 1
            self.stated[series] = number
            self.events.append((event_type, data, step))

    async def answer(self, ask: str) -> Answer:
        return await self._given[ask].get()

    async def said(self, event_type: str, times: int = 1) -> None:
        """Wait until it was said so often."""
        async with asyncio.timeout(patient(PATIENCE_SECONDS)):
            while self.types.count(event_type) < times:  # noqa: ASYNC110 - a recorder announces nothing
                await asyncio.sleep(0)

    def give(self, ask: str, data: Any, by: str | None = None) -> None:
        self._given[ask].put_nowait(Answer(data, by))

    async def restore(self) -> Restored:
        return self.restored

    async def keep_output(self, step: str, packed: bytes) -> None:
        self.outputs[step] = unpack(packed)

    async def keep_state(self, step: str, packed: bytes) -> None:
        self.states[step] = unpack(packed)

    async def keep_answer(self, ask: str, packed: bytes) -> None:
        self.answers[ask] = unpack(packed)

    def taken_over(self) -> RecordedRun:
        """The same execution in the hands of the next worker: the log and what is kept are there, memory is not."""
        kept = Restored(dict(self.outputs), dict(self.states), dict(self.answers))
        return RecordedRun(kept, attempt=self.attempt + 1, stated=self.stated)

    @property
    def types(self) -> list[str]:
        return [event_type for event_type, _, _ in self.events]

    @property
    def story(self) -> list[str]:
        """What happened to which step: ``"fetch started"``."""
        return [f"{step} {event_type.removeprefix('step.')}" for event_type, _, step in self.events]

    def data_of(self, event_type: str, step: str | None = None) -> Any:
        (data,) = [data for each, data, of in self.events if each == event_type and step in {None, of}]
        return data


@dataclass
class RecordedCommands:
    """Answers each command with the next of ``replies``."""

    replies: list[Any]
    sent: list[tuple[bytes | str | float, ...]] = field(default_factory=list)

    async def command(self, *command: bytes | str | float) -> Any:
        self.sent.append(command)
        return self.replies.pop(0)

    async def aclose(self) -> None:
        pass


def context_of(run: RecordedRun, given: Any = None, step: str = "fetch") -> Context:
    backing = LiveStep(run, step, (), Notes())
    return Context("run-1", {} if given is None else given, 1, backing, step)
