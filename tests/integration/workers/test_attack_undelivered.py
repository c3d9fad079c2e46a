"""Handlers that fail are called again, and what they fail at for good is kept, looked at and requeued."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tailrace.bus import Bus, DeadLetterUnknownError, Entry, InvalidInputError
from tailrace.workers.handlers import Delivery, Handlers
from tests.integration.workers.test_subscribers_follow import Seen, emit, following
from tests.integration.workers.watching import until, until_true

pytestmark = pytest.mark.anyio


class Flaky:
    """Fails at an event for so many times, or while it is broken."""

    def __init__(self, failures: int = 0) -> None:
        self.left = failures
        self.broken = False
        self.calls: list[Any] = []
        self.handled: list[Delivery] = []

    def on_number(self, event: Delivery) -> None:
        self.calls.append(event.data["n"])
        if event.data["n"] == 1 and (self.broken or self.left > 0):
            self.left -= 1
            raise ConnectionError("the mail server hung up")
        self.handled.append(event)


def flaky_handlers(flaky: Flaky, seen: Seen) -> Handlers:
    handlers = Handlers()
    handlers.add(flaky.on_number, "custom.n")
    handlers.add(seen)
    return handlers


async def test_attack_30_a_handler_that_fails_is_called_again_and_order_is_kept(bus: Bus) -> None:
    flaky, seen = Flaky(failures=2), Seen()
    handlers = flaky_handlers(flaky, seen)
    await emit(bus, "run", 3)
    async with following(bus, handlers, retry_delay_seconds=0.05):
        await until(seen.ended("run"))
    assert flaky.calls == [0, 1, 1, 1, 2]
    assert [event.data["n"] for event in flaky.handled] == [0, 1, 2]
    assert seen.numbers("run") == [0, 1, 2]
    assert not handlers.failures
    assert bus.counters["handler_retries"] == 2
    assert await bus.undelivered("billing").list() == []


async def test_attack_30_what_fails_for_good_is_kept_and_goes_to_that_handler_again(bus: Bus) -> None:
    flaky, seen = Flaky(), Seen()
    flaky.broken = True
    undelivered = bus.undelivered("billing")
    await emit(bus, "run", 3)
    async with following(bus, flaky_handlers(flaky, seen), retries=1, retry_delay_seconds=0.01):
        await until(seen.ended("run"))
        (kept,) = await undelivered.list()
        assert (kept.execution_id, kept.type, kept.attempts) == ("run", "custom.n", 2)
        assert kept.handler.endswith("Flaky.on_number")
        assert kept.message == "ConnectionError: the mail server hung up"
        assert bus.counters["handler_undelivered"] == 1
        flaky.broken = False
        await undelivered.requeue(kept.entry_id)
        await until(lambda: len(flaky.handled) == 3)
        again = flaky.handled[-1]
        assert (again.data["n"], again.cursor, again.repeated) == (1, kept.cursor, True)

        async def all_done() -> bool:
            return not await bus.commands.command("XLEN", bus.keys.redeliveries("billing"))

        await until_true(all_done)
    # The other handler of the group had it once.
    assert seen.numbers("run") == [0, 1, 2]
    assert await undelivered.list() == []
    with pytest.raises(DeadLetterUnknownError):
        await undelivered.requeue(kept.entry_id)


async def test_attack_30_one_that_fails_again_is_kept_again_and_can_be_dropped(bus: Bus) -> None:
    flaky, seen = Flaky(), Seen()
    flaky.broken = True
    undelivered = bus.undelivered("billing")
    await emit(bus, "run", 3)
    async with following(bus, flaky_handlers(flaky, seen), retries=0):
        await until(seen.ended("run"))
        (first,) = await undelivered.list()
        await undelivered.requeue(first.entry_id)
        await until_true(lambda: _is_kept_anew(bus, first.entry_id))
    (second,) = await undelivered.list()
    await undelivered.drop(second.entry_id)
    assert await undelivered.list() == []


async def _is_kept_anew(bus: Bus, entry_id: str) -> bool:
    return [letter.entry_id for letter in await bus.undelivered("billing").list()] not in ([], [entry_id])


async def test_attack_30_what_a_dead_reader_held_of_it_goes_to_another(bus: Bus) -> None:
    flaky, seen = Flaky(), Seen()
    undelivered = bus.undelivered("billing")
    await emit(bus, "run", 3)
    async with aclosing(bus.follow("run")) as items:
        event = [item async for item in items if isinstance(item, Entry) and item.type == "custom.n"][1]
    handler = flaky.on_number.__qualname__
    await undelivered.add("run", event.cursor, event.type, handler, "it broke", 1)
    await undelivered.requeue((await undelivered.list())[0].entry_id)
    # A reader takes it, and is never heard of again.
    assert await undelivered.take("dead", idle_seconds=60, count=1) == []
    assert len(await undelivered.take("dead", idle_seconds=60, count=1)) == 1
    async with following(bus, flaky_handlers(flaky, seen), since="now"):
        await until(lambda: len(flaky.handled) == 1)
    assert flaky.handled[0].cursor == event.cursor


async def test_attack_30_an_event_that_is_gone_or_has_no_handler_is_told_and_kept(bus: Bus) -> None:
    undelivered = bus.undelivered("billing")
    await emit(bus, "run", 1)
    async with aclosing(bus.follow("run")) as items:
        event = [item async for item in items if isinstance(item, Entry)][1]
    await undelivered.add("run", event.cursor, event.type, "nobody", "it broke", 1)
    await undelivered.add("forgotten", event.cursor, event.type, "nobody", "it broke", 1)
    for letter in await undelivered.list():
        await undelivered.requeue(letter.entry_id)
    async with following(bus, flaky_handlers(Flaky(), Seen())):
        await until_true(lambda: _has(bus, 2))
    told = {letter.execution_id: letter.message for letter in await undelivered.list()}
    assert told["run"].startswith("there is no handler of that name for it; before that: it broke")
    assert told["forgotten"].startswith("the event is not in the log any more")


async def _has(bus: Bus, count: int) -> bool:
    return len(await bus.undelivered("billing").list()) == count


async def test_retries_that_cannot_be_are_refused(bus: Bus) -> None:
    for wrong in ({"retries": -1}, {"retry_delay_seconds": -1.0}):
        with pytest.raises(InvalidInputError, match="at least 0"):
            await Handlers().follow_all(bus, "billing", **wrong)
    with pytest.raises(InvalidInputError):
        bus.undelivered("no/group")
    await asyncio.sleep(0)
