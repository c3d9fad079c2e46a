"""Live connections end with their credentials, and one timer looks after them all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.presence.live_connections import (
    EXPIRED,
    REVOKED,
    ConnectionEnding,
    LiveConnection,
    LiveConnections,
)

NOW = 1_000_000


def principal(expires_at: float | None, subject: str = "ann") -> Principal:
    return Principal(subject, "acme", frozenset({"read"}), expires_at=expires_at)


class Nothing:
    executions = ()


def connection(principal: Principal, end: Callable[[ConnectionEnding], None]) -> LiveConnection:
    return LiveConnection("sse", Nothing(), principal, None, NOW * 1000, end)


class Room:
    """Connections, and who was ended how."""

    def __init__(self) -> None:
        self.sessions = LiveConnections(NOW)
        self.ended: list[tuple[str, ConnectionEnding]] = []

    def enter(self, name: str, expires_at: float | None) -> LiveConnection:
        session = connection(principal(expires_at, name), self._note(name))
        self.sessions.enter(session)
        return session

    def _note(self, name: str) -> Callable[[ConnectionEnding], None]:
        return lambda ending: self.ended.append((name, ending))


def test_a_session_ends_when_its_token_does_and_not_before() -> None:
    room = Room()
    room.enter("a", NOW + 2.5)
    for second in (NOW, NOW + 1, NOW + 2):
        assert room.sessions.sweep(second) == 0
    assert room.sessions.sweep(NOW + 3) == 1
    assert room.ended == [("a", EXPIRED)]
    assert len(room.sessions) == 0


def test_a_token_that_has_expired_meanwhile_ends_at_the_next_sweep() -> None:
    room = Room()
    room.sessions.sweep(NOW + 100)
    room.enter("a", NOW + 50)
    room.sessions.sweep(NOW + 101)
    assert room.ended == [("a", EXPIRED)]


def test_what_never_expires_stays_and_who_left_is_not_ended() -> None:
    room = Room()
    room.enter("for ever", None)
    room.sessions.leave(room.enter("gone", NOW + 1))
    room.sessions.sweep(NOW + 10)
    assert room.ended == []
    assert len(room.sessions) == 1


def test_a_renewed_session_lasts_as_long_as_the_new_token() -> None:
    room = Room()
    session = room.enter("a", NOW + 1)
    room.sessions.renew(session, principal(NOW + 10))
    room.sessions.sweep(NOW + 9)
    assert room.ended == []
    room.sessions.sweep(NOW + 11)
    assert room.ended == [("a", EXPIRED)]


def test_a_revocation_ends_those_that_it_is_about() -> None:
    room = Room()
    room.enter("ann", NOW + 100)
    room.enter("bob", NOW + 100)
    assert room.sessions.end_where(lambda principal: principal.subject == "bob") == 1
    assert room.ended == [("bob", REVOKED)]
    room.sessions.sweep(NOW + 200)
    assert room.ended == [("bob", REVOKED), ("ann", EXPIRED)]


def test_who_leaves_while_he_is_ended_does_no_harm() -> None:
    sessions = LiveConnections(NOW)
    entered: list[LiveConnection] = []

    def end(_: ConnectionEnding) -> None:
        for session in entered:
            sessions.leave(session)

    entered += [connection(principal(NOW + 1), end) for _ in range(3)]
    for session in entered:
        sessions.enter(session)
    sessions.sweep(NOW + 2)
    assert len(sessions) == 0


def test_a_clock_that_is_set_back_ends_nobody_too_early_or_twice() -> None:
    room = Room()
    room.sessions.sweep(NOW + 100)
    room.enter("a", NOW + 200)
    assert room.sessions.sweep(NOW) == 0
    assert room.sessions.sweep(NOW + 201) == 1
    assert room.sessions.sweep(NOW + 300) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=60))
def test_whatever_comes_and_goes_each_ends_once_in_its_second(steps: list[tuple[int, int]]) -> None:
    room = Room()
    now, live = NOW, {}
    for number, (kind, amount) in enumerate(steps):
        if kind < 2:
            name = str(number)
            live[name] = room.enter(name, now + amount + 0.5)
        elif kind == 2 and live:
            name = sorted(live)[amount % len(live)]
            room.sessions.leave(live.pop(name))
        else:
            now += amount
            room.sessions.sweep(now)
            over = {name for name, session in live.items() if (session.principal.expires_at or 0) < now}
            assert {name for name, _ in room.ended} == over
            room.ended.clear()
            for name in over:
                del live[name]
        assert len(room.sessions) == len(live)


def test_leaving_leaves_nothing_behind() -> None:
    room = Room()
    for number in range(1000):
        room.sessions.leave(room.enter(str(number), NOW + 3600 + number))
    assert not room.sessions._by_second
    with pytest.raises(KeyError):
        room.sessions._by_second.popitem()
