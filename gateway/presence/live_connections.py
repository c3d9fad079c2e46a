"""The live connections of this process, by number and by when their credentials expire. Does no I/O, reads no clock.

Each stands in the second in which its credential expires, so that one timer looks after all of them, and a second in
which none expires costs nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from tailrace.gateway.auth.principal import Principal

Kind = Literal["sse", "ndjson", "multiplex", "websocket", "activity", "long-poll"]


@dataclass(frozen=True, slots=True)
class ConnectionEnding:
    """Why a connection ends before its stream does."""

    code: str
    detail: str


EXPIRED: Final = ConnectionEnding(
    "token_expired", "the token has expired; come back with a new one and the same cursor"
)
REVOKED: Final = ConnectionEnding(
    "token_revoked", "the token has been revoked; come back with another one and the same cursor"
)
DISCONNECTED: Final = ConnectionEnding(
    "disconnected", "an operator has ended this connection; come back with the same cursor if you may"
)


class Watching(Protocol):
    """What a connection is for: a topic, or a socket with several."""

    @property
    def executions(self) -> Sequence[str]: ...


@dataclass(slots=True, eq=False)
class LiveConnection:
    """``end`` closes it, and must not raise. ``since_ms`` is Unix time."""

    kind: Kind
    watching: Watching
    principal: Principal
    address: str | None
    since_ms: int
    end: Callable[[ConnectionEnding], None]
    number: int = 0
    # What it was watching when the other gateways were told last.
    told: Sequence[str] | None = None


class LiveConnections:
    def __init__(self, now_seconds: int) -> None:
        """``now_seconds`` is Unix time, as everywhere here."""
        self._by_number: dict[int, LiveConnection] = {}
        # Dicts as ordered sets: leaving is O(1), and those who came first go first.
        self._by_second: defaultdict[int, dict[LiveConnection, None]] = defaultdict(dict)
        self._swept = now_seconds
        self._last = 0
        self._gone: list[int] = []

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[LiveConnection]:
        return iter(self._by_number.values())

    def enter(self, connection: LiveConnection) -> None:
        self._last += 1
        connection.number = self._last
        self._by_number[connection.number] = connection
        self._note_expiry(connection)

    def leave(self, connection: LiveConnection) -> None:
        if self._by_number.pop(connection.number, None) is None:
            return
        self._forget_expiry(connection)
        if connection.told is not None:
            self._gone.append(connection.number)

    def renew(self, connection: LiveConnection, principal: Principal) -> None:
        """Go on with a newer credential."""
        self._forget_expiry(connection)
        connection.principal = principal
        if connection.number in self._by_number:
            self._note_expiry(connection)

    def sweep(self, now_seconds: int) -> int:
        """End those whose credentials have expired; how many there were."""
        expired: list[LiveConnection] = []
        for second in range(self._swept + 1, now_seconds + 1):
            expired += self._by_second.pop(second, ())
        self._swept = max(self._swept, now_seconds)
        return self._end(expired, EXPIRED)

    def end_where(self, is_revoked: Callable[[Principal], bool]) -> int:
        """End those whose credentials have been revoked; how many there were."""
        return self._end(
            [each for each in self if not each.principal.lasts and is_revoked(each.principal)],
            REVOKED,
        )

    def find(self, number: int) -> LiveConnection | None:
        return self._by_number.get(number)

    def disconnect(self, number: int) -> bool:
        """End one that is here. False when there is none of that number."""
        connection = self._by_number.get(number)
        if connection is None:
            return False
        connection.end(DISCONNECTED)
        return True

    def untold(self) -> tuple[list[LiveConnection], list[int]]:
        """Give those that are new or watch something else, and the numbers of those that are gone, each once."""
        gone, self._gone = self._gone, []
        changed = []
        for connection in self:
            executions = connection.watching.executions
            if connection.told != executions:
                connection.told = executions
                changed.append(connection)
        return changed, gone

    def forget_told(self) -> None:
        """What others know is not known any more: tell all of it again."""
        self._gone.clear()
        for connection in self:
            connection.told = None

    def _end(self, connections: Iterable[LiveConnection], ending: ConnectionEnding) -> int:
        count = 0
        for connection in connections:
            self.leave(connection)
            connection.end(ending)
            count += 1
        return count

    def _note_expiry(self, connection: LiveConnection) -> None:
        if (second := self._second_of(connection)) is not None:
            self._by_second[second][connection] = None

    def _forget_expiry(self, connection: LiveConnection) -> None:
        second = self._second_of(connection)
        if second is not None and (members := self._by_second.get(second)) is not None:
            members.pop(connection, None)
            if not members:
                del self._by_second[second]

    def _second_of(self, connection: LiveConnection) -> int | None:
        expires_at = connection.principal.expires_at
        # What has expired already is found by the next sweep.
        return None if expires_at is None else max(int(expires_at) + 1, self._swept + 1)
