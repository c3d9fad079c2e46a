"""The live connections of this process, by number. Does no I/O, reads no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.auth.principal import Principal
from gateway.auth.sessions import Ending

Kind = Literal["sse", "ndjson", "multiplex", "websocket", "activity", "long-poll"]

DISCONNECTED = Ending(
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
    end: Callable[[Ending], None]
    number: int = 0


class Stays:
    def __init__(self) -> None:
        self._by_number: dict[int, Standing] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Standing]:
        return iter(self._by_number.values())

    def enter(self, standing: Standing) -> None:
        self._last += 1
        standing.number = self._last
        self._by_number[standing.number] = standing

    def leave(self, standing: Standing) -> None:
        self._by_number.pop(standing.number, None)

    def find(self, number: int) -> Standing | None:
        return self._by_number.get(number)

    def disconnect(self, number: int) -> bool:
        """End one that is here. False when there is none of that number."""
        standing = self._by_number.get(number)
        if standing is None:
            return False
        standing.end(DISCONNECTED)
        return True
