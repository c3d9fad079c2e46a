"""What the bench asks of a contender: start on a stage, and say how to publish to it and how to watch it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from bench.process import Server, Stage


@dataclass(frozen=True, slots=True)
class Publishing:
    """How the publisher reaches it: see bench/load/feed.py."""

    kind: str
    port: int
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watching:
    """How a viewer reaches it: see bench/load/viewers.py. `{execution}`, `{run}` and `{cursor}` are filled in."""

    ports: tuple[int, ...]
    path: str
    kind: str = "sse"
    headers: dict[str, str] = field(default_factory=dict)
    cursor_header: str = "Last-Event-ID"
    cursor_query: str = ""
    subscribe: str = ""
    subprotocol: str = ""

    def order(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Running:
    """A started contender. ``gateway`` is what serves viewers; ``redis`` what keeps the events, if anything."""

    gateway: tuple[Server, ...]
    redis: tuple[Server, ...]
    publishing: Publishing
    watching: Watching


class Contender(ABC):
    name: ClassVar[str]
    about: ClassVar[str]
    remembers: ClassVar[bool] = True
    """Whether it keeps events, so that a viewer may come later or come back."""

    def missing(self) -> str | None:
        """What has to be installed first; None when it can be started."""
        return None

    @abstractmethod
    def start(self, stage: Stage) -> Running:
        """Start its servers and wait until they are ready. Raises NotReadyError."""
