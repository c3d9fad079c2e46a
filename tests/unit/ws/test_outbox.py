"""Whatever the connection holds back and whoever writes: each writer's messages go out once and in order."""

from __future__ import annotations

from collections import deque
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tailrace.gateway.streams.socket_outbox import SocketOutbox
from tailrace.gateway.wire.formats import Message

MANY = 5


class FakeConnection:
    """Holds one message when it is full, as a stepped ``send`` does."""

    def __init__(self) -> None:
        self.full = False
        self.held: Message | None = None
        self.out: list[tuple[int, int]] = []

    def write(self, message: Message) -> bool:
        assert self.held is None, "written to while a write is held"
        if self.full:
            self.held = message
            return False
        self.out.append(message["body"])
        return True


class FakeWriter:
    """Has messages of its own to write, and writes on as soon as it may."""

    def __init__(self, name: int, outbox: SocketOutbox) -> None:
        self.name = name
        self.outbox = outbox
        self.ready = True
        self.left = 0
        self.wrote = 0
        self.turns = 0

    def write(self) -> None:
        while self.left and self.ready:
            self.left -= 1
            self.wrote += 1
            self.ready = self.outbox.put(self, {"body": (self.name, self.wrote)})

    def drained(self) -> None:
        assert not self.ready, "told that it may write, which it knew"
        self.ready = True
        self.turns += 1
        self.write()


class OutboxMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.connection = FakeConnection()
        self.outbox = SocketOutbox(self.connection.write)
        self.writers = [FakeWriter(name, self.outbox) for name in range(MANY)]

    @rule(which=st.integers(0, MANY - 1), count=st.integers(1, 4))
    def write(self, which: int, count: int) -> None:
        self.writers[which].left += count
        self.writers[which].write()

    @rule()
    def fill(self) -> None:
        self.connection.full = True

    @precondition(lambda self: self.connection.held is not None)
    @rule(still_full=st.booleans())
    def release(self, still_full: bool) -> None:
        held = self.connection.held
        assert held is not None
        self.connection.held = None
        self.connection.out.append(held["body"])
        self.connection.full = still_full
        self.outbox.released()

    @invariant()
    def each_writers_messages_are_out_in_order(self) -> None:
        for writer in self.writers:
            numbers = [number for name, number in self.connection.out if name == writer.name]
            assert numbers == list(range(1, len(numbers) + 1))

    @invariant()
    def at_most_one_message_waits_for_each_writer(self) -> None:
        assert len(self.outbox) <= MANY
        for writer in self.writers:
            out = sum(name == writer.name for name, _ in self.connection.out)
            assert writer.wrote - out <= 1

    @invariant()
    def it_is_held_exactly_while_the_connection_holds(self) -> None:
        assert self.outbox.held == (self.connection.held is not None)
        assert self.outbox.held or not len(self.outbox)

    def teardown(self) -> None:
        self.connection.full = False
        while self.connection.held is not None:
            self.release(still_full=False)
        for writer in self.writers:
            assert writer.ready
            assert not writer.left
            assert sum(name == writer.name for name, _ in self.connection.out) == writer.wrote


OutboxMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestWritersShareAConnection = OutboxMachine.TestCase


def test_nobody_keeps_the_connection_to_itself() -> None:
    connection = FakeConnection()
    outbox = SocketOutbox(connection.write)
    writers = [FakeWriter(name, outbox) for name in range(MANY)]
    connection.full = True
    for writer in writers:
        writer.left = 100
        writer.write()
    for _ in range(10 * MANY):
        held, connection.held = connection.held, None
        assert held is not None
        connection.out.append(held["body"])
        outbox.released()
    assert {writer.turns for writer in writers} <= {9, 10}


def test_what_a_writer_left_is_forgotten_with_it() -> None:
    connection = FakeConnection()
    outbox = SocketOutbox(connection.write)
    first, second = (FakeWriter(name, outbox) for name in range(2))
    connection.full = True
    for writer in (first, second):
        writer.left = 1
        writer.write()
    outbox.forget(second)
    assert len(outbox) == 1
    connection.full, connection.held = False, None
    outbox.released()
    assert connection.out == []
    assert (first.turns, second.turns) == (1, 0)


def test_asking_for_a_turn_loses_no_message_that_waits() -> None:
    connection = FakeConnection()
    outbox = SocketOutbox(connection.write)
    first, second = (FakeWriter(name, outbox) for name in range(2))
    connection.full = True
    for writer in (first, second):
        writer.left = 1
        writer.write()
    outbox.wait(second)
    connection.full, connection.held = False, None
    outbox.released()
    assert connection.out == [(1, 1)]
    assert second.turns == 1


def test_nobody_waits_for_a_connection_that_is_gone() -> None:
    told: deque[Any] = deque()

    class Waiting:
        def drained(self) -> None:
            told.append(self)

    connection = FakeConnection()
    outbox = SocketOutbox(connection.write)
    connection.full = True
    early, late = Waiting(), Waiting()
    outbox.put(early, {"body": (0, 1)})
    outbox.abandon()
    outbox.wait(late)
    assert list(told) == [early, late]
    assert not outbox.put(late, {"body": (0, 2)})
    assert not len(outbox)
