"""The live connections of this process, by number. Does no I/O, reads no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.sessions import SessionEnding

Kind = Literal["sse", "ndjson", "multiplex", "websocket", "activity", "long-poll"]

DISCONNECTED = SessionEnding(
    "disconnected", "an operator has ended this connection; come back with the same cursor if you may"
)


class Watching(Protocol):
    """What a connection is for: a topic, or a socket with several."""

    @property
    def executions(self) -> Sequence[str]: ...


@dataclass(slots=True)
class Standing:
    """One live connection; ``end`` closes it, and must not raise. ``since_ms`` is Unix time."""

    kind: Kind
    watching: Watching
    principal: Principal
    address: str | None
    since_ms: int
    end: Callable[[SessionEnding], None]
    number: int = 0
    # What it was watching when the other gateways were told last.
    told: Sequence[str] | None = None


class Stays:
    def __init__(self) -> None:
        self._by_number: dict[int, Standing] = {}
        self._last = 0
        self._gone: list[int] = []

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Standing]:
        return iter(self._by_number.values())

    def enter(self, standing: Standing) -> None:
        self._last += 1
        standing.number = self._last
        self._by_number[standing.number] = standing

    def leave(self, standing: Standing) -> None:
        if self._by_number.pop(standing.number, None) is not None and standing.told is not None:
            self._gone.append(standing.number)

    def untold(self) -> tuple[list[Standing], list[int]]:
        """Give those that are new or watch something else, and the numbers of those that are gone, each once."""
        gone, self._gone = self._gone, []
        changed = []
        for standing in self._by_number.values():
            executions = standing.watching.executions
            if standing.told != executions:
                standing.told = executions
                changed.append(standing)
        return changed, gone

    def forget_told(self) -> None:
        """What others know is not known any more: tell all of it again."""
        self._gone.clear()
        for standing in self._by_number.values():
            standing.told = None

    def find(self, number: int) -> Standing | None:
        return self._by_number.get(number)

    def disconnect(self, number: int) -> bool:
        """End one that is here. False when there is none of that number."""
        standing = self._by_number.get(number)
        if standing is None:
            return False
        standing.end(DISCONNECTED)
        return True
