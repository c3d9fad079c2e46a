"""What stands behind the context of a step in the worker's own process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tailrace.bus.ownership.checkpoints import pack, unpack
from tailrace.workers.definition.backing import Answer
from tailrace.workers.definition.deadline import StepDeadline, held
from tailrace.workers.errors import StepOverError
from tailrace.workers.running.run import PipelineExecution


@dataclass(frozen=True, slots=True)
class Notes:
    """What outlives a try: states by step, accepted answers by question; of this attempt, how many were rejected."""

    states: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)


class LiveStep:
    """For one try.

    Whatever is waited for here is not the step's fault, so its deadlines stand still; but for a step that emits faster
    than Redis takes it.
    """

    def __init__(self, run: PipelineExecution, step: str, deadlines: Sequence[StepDeadline], notes: Notes) -> None:
        self._run = run
        self._step = step
        self._deadlines = [deadline for deadline in deadlines if deadline.seconds is not None]
        self._notes = notes
        self._is_over = False

    @property
    def max_event_bytes(self) -> int:
        return self._run.max_event_bytes

    def end(self) -> None:
        self._is_over = True

    async def emit(self, event_type: str, data: Any, meta: dict[str, Any] | None = None) -> None:
        self._check()
        if not self._deadlines:
            await self._run.emit(event_type, data, step=self._step, meta=meta)
        elif self._run.backlogged:
            # Its own flood: held, a program that writes without end would never run out of time.
            with held(self._deadlines):
                await self._run.pause_point()
            await self._run.emit(event_type, data, step=self._step, meta=meta)
        else:
            with held(self._deadlines):
                await self._run.emit(event_type, data, step=self._step, meta=meta)

    async def save(self, packed: bytes) -> None:
        self._check()
        with held(self._deadlines):
            await self._run.keep_state(self._step, packed)
        self._notes.states[self._step] = unpack(packed)

    async def open_question(self, ask: str, question: Any, schema: dict[str, Any] | None) -> Answer | None:
        self._check()
        with held(self._deadlines):
            data = {"ask": ask, "question": question, **({} if schema is None else {"schema": schema})}
            await self._state(ask, 1, "review.required", data)
            kept = self._notes.answers.get(ask)
            if kept is None:
                return None
            # The attempt that kept it may have died before telling.
            await self._state(ask, kept["number"], "review.resolved", _told(ask, kept["answer"], kept["by"]))
            return Answer(kept["answer"], kept["by"])

    async def next_answer(self, ask: str) -> Answer:
        self._check()
        with held(self._deadlines):
            return await self._run.answer(ask)

    async def reject(self, ask: str, answer: Answer, problems: list[str]) -> None:
        self._check()
        with held(self._deadlines):
            self._notes.rejected[ask] += 1
            data = {"ask": ask, "errors": problems, "by": answer.by}
            await self._state(ask, 1 + self._notes.rejected[ask], "review.rejected", data)

    async def resolve(self, ask: str, answer: Answer) -> None:
        self._check()
        with held(self._deadlines):
            kept = {"answer": answer.data, "by": answer.by, "number": 2 + self._notes.rejected[ask]}
            await self._run.keep_answer(ask, pack(kept, field="answer"))
            self._notes.answers[ask] = kept
            await self._state(ask, kept["number"], "review.resolved", _told(ask, answer.data, answer.by))

    async def _state(self, ask: str, number: int, event_type: str, data: dict[str, Any]) -> None:
        await self._run.state_once(event_type, data, step=self._step, series=f"ask.{ask}", number=number)

    def _check(self) -> None:
        if self._is_over:
            raise StepOverError(self._step)


def _told(ask: str, answer: Any, by: str | None) -> dict[str, Any]:
    return {"ask": ask, "answer": answer, "by": by}
