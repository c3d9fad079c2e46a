"""Stand-ins for what a worker talks to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workers.context import Context


@dataclass
class RecordedEvents:
    """Takes events as an execution does, and keeps them."""

    events: list[tuple[str, Any, str | None]] = field(default_factory=list)

    async def emit(
        self, event_type: str, data: Any = None, *, step: str | None = None, meta: dict[str, Any] | None = None
    ) -> None:
        assert meta is None
        self.events.append((event_type, data, step))

    @property
    def types(self) -> list[str]:
        return [event_type for event_type, _, _ in self.events]

    def data_of(self, event_type: str) -> Any:
        (data,) = [data for each, data, _ in self.events if each == event_type]
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


def context_of(events: RecordedEvents, given: Any = None) -> Context:
    return Context("run-1", {} if given is None else given, 1, events)
