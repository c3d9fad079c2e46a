"""Live connections and the credentials they stand on. Does no I/O, reads no clock.

Each stands in the second in which its credential expires, so that one timer looks after all of them, and a second in
which none expires costs nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tailrace.gateway.auth.principal import Principal


@dataclass(frozen=True, slots=True)
class SessionEnding:
    """Why a connection ends before its stream does."""

    code: str
    detail: str


EXPIRED: Final = SessionEnding("token_expired", "the token has expired; come back with a new one and the same cursor")
REVOKED: Final = SessionEnding(
    "token_revoked", "the token was taken back; come back with another one and the same cursor"
)


class Session:
    """One live connection; ``end`` closes it, and must not raise."""

    __slots__ = ("end", "principal")

    def __init__(self, principal: Principal, end: Callable[[SessionEnding], None]) -> None:
        self.principal = principal
        self.end = end


class Sessions:
    def __init__(self, now_seconds: int) -> None:
        """``now_seconds`` is Unix time, as everywhere here."""
        # Dicts as ordered sets: leaving is O(1), and those who came first go first.
        self._all: dict[Session, None] = {}
        self._by_second: defaultdict[int, dict[Session, None]] = defaultdict(dict)
        self._swept = now_seconds

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, session: Session) -> None:
        self._all[session] = None
        if (second := self._second_of(session)) is not None:
            self._by_second[second][session] = None

    def leave(self, session: Session) -> None:
        if session not in self._all:
            return
        del self._all[session]
        second = self._second_of(session)
        if second is not None and (members := self._by_second.get(second)) is not None:
            members.pop(session, None)
            if not members:
                del self._by_second[second]

    def renew(self, session: Session, principal: Principal) -> None:
        """Go on with a newer credential."""
        self.leave(session)
        session.principal = principal
        self.enter(session)

    def sweep(self, now_seconds: int) -> int:
        """End those that have expired; how many there were."""
        expired: list[Session] = []
        for second in range(self._swept + 1, now_seconds + 1):
            expired += self._by_second.pop(second, ())
        self._swept = max(self._swept, now_seconds)
        self._end(expired, EXPIRED)
        return len(expired)

    def end_where(self, is_over: Callable[[Principal], bool]) -> int:
        """End those whose credentials are not good any more; how many there were."""
        over = [session for session in self._all if is_over(session.principal)]
        self._end(over, REVOKED)
        return len(over)

    def _end(self, sessions: list[Session], ending: SessionEnding) -> None:
        for session in sessions:
            self.leave(session)
            session.end(ending)

    def _second_of(self, session: Session) -> int | None:
        expires_at = session.principal.expires_at
        # What has expired already is found by the next sweep.
        return None if expires_at is None else max(int(expires_at) + 1, self._swept + 1)
