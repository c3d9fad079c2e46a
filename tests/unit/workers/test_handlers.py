"""Handlers: which events they get, and that what one of them does concerns nobody else."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from typing import Any

import pytest

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.workers.handlers import Delivery, Handlers
from tests.patience import patient

pytestmark = pytest.mark.anyio


def delivery(event_type: str, data: Any = None, n: int = 1) -> Delivery:
    return Delivery("run", Cursor(1, n), event_type, None, None, data)


async def test_a_handler_gets_the_types_it_names() -> None:
    handlers = Handlers()
    got: list[Any] = []

    @handlers.on("quality.check", "metric")
    async def check(event: Delivery) -> None:
        got.append(event.type)

    for event_type in ("quality.check", "quality.checked", "metric", "token"):
        await handlers.handle(delivery(event_type))
    assert got == ["quality.check", "metric"]
    assert check.__name__ == "check"


@pytest.mark.parametrize(
    ("pattern", "event_type", "wanted"),
    [
        ("step.*", "step.started", True),
        ("step.*", "step.a.b", True),
        ("step.*", "step", False),
        ("*", "token", True),
        ("*.completed", "step.completed", True),
        ("step.?tarted", "step.started", True),
        ("*", "stream.gap", False),
        ("stream.*", "stream.gap", True),
    ],
)
async def test_patterns_match_as_in_a_shell(pattern: str, event_type: str, wanted: bool) -> None:
    handlers = Handlers()
    got: list[Any] = []
    handlers.add(got.append, pattern)
    await handlers.handle(delivery(event_type))
    assert bool(got) is wanted


@pytest.mark.parametrize("pattern", ["", "Step.*", "step.[ab]", "a" * 129, "a b", 5])
def test_a_pattern_that_can_match_nothing_is_refused(pattern: Any) -> None:
    with pytest.raises(InvalidInputError, match="pattern"):
        Handlers().add(print, pattern)


def test_a_registration_without_types_says_how_to_name_all() -> None:
    with pytest.raises(TypeError, match=r"'\*' for all"):
        Handlers().on()
    not_callable: Any = 5
    with pytest.raises(TypeError, match="cannot be called"):
        Handlers().add(not_callable)


async def test_plain_functions_run_in_threads_and_coroutines_in_the_loop() -> None:
    handlers, threads = Handlers(), {}

    @handlers.on("token")
    def plain(_: Delivery) -> None:
        threads["plain"] = threading.current_thread()

    @handlers.on("token")
    async def coroutine(_: Delivery) -> None:
        threads["coroutine"] = threading.current_thread()

    await handlers.handle(delivery("token"))
    assert threads["coroutine"] is threading.current_thread()
    assert threads["plain"] is not threading.current_thread()


class CallableSubscriber:
    def __init__(self) -> None:
        self.got: list[Delivery] = []

    async def __call__(self, event: Delivery) -> None:
        await asyncio.sleep(0)
        self.got.append(event)


async def test_anything_that_can_be_called_is_a_handler() -> None:
    handlers, subscriber = Handlers(), CallableSubscriber()

    async def with_more(got: list[Delivery], event: Delivery) -> None:
        await asyncio.sleep(0)
        got.append(event)

    of_partial: list[Delivery] = []
    of_lambda: list[Delivery] = []
    handlers.add(subscriber)
    handlers.add(partial(with_more, of_partial), "token")
    handlers.add(lambda event: with_more(of_lambda, event), "token")
    event = delivery("token")
    await handlers.handle(event)
    assert subscriber.got == of_partial == of_lambda == [event]


async def test_several_handlers_of_an_event_run_beside_each_other() -> None:
    """Each waits for the other: one after the other they would never end."""
    handlers = Handlers()
    first, second = asyncio.Event(), asyncio.Event()

    @handlers.on("token")
    async def one(_: Delivery) -> None:
        first.set()
        await second.wait()

    @handlers.on("token")
    async def other(_: Delivery) -> None:
        second.set()
        await first.wait()

    async with asyncio.timeout(patient(5)):
        await handlers.handle(delivery("token"))


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), asyncio.CancelledError()])
@pytest.mark.parametrize("plain", [True, False])
async def test_what_a_handler_raises_is_counted_and_hurts_nobody(
    error: BaseException, plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = Handlers()
    got: list[Any] = []

    def raises(_: Delivery) -> None:
        raise error

    async def raises_later(_: Delivery) -> None:
        await asyncio.sleep(0)
        raise error

    handlers.add(raises if plain else raises_later, "token")
    handlers.add(got.append, "token")
    await handlers.handle(delivery("token"))
    assert len(got) == 1
    assert list(handlers.failures.values()) == [1]
    assert "of execution run" in caplog.text


async def test_a_handler_that_always_fails_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    handlers = Handlers()

    @handlers.on("token")
    async def always(_: Delivery) -> None:
        raise ValueError("again")

    with caplog.at_level(logging.ERROR):
        for n in range(100):
            await handlers.handle(delivery("token", n=n))
    assert sum(handlers.failures.values()) == 100
    assert len(caplog.records) == 7


async def test_whoever_cancels_the_handling_is_obeyed() -> None:
    handlers, begun = Handlers(), asyncio.Event()

    @handlers.on("token")
    async def endless(_: Delivery) -> None:
        begun.set()
        await asyncio.Event().wait()

    handling = asyncio.create_task(handlers.handle(delivery("token")))
    await begun.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert not handlers.failures


async def test_a_gap_that_nobody_asked_for_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    handlers = Handlers()
    handlers.add(print)
    gap = Gap(Cursor(1, 1), Cursor(5, 5), Cursor(9, 9), "trimmed")
    await handlers.handle(Delivery.of("run", gap))
    assert "events are missing" in caplog.text


def test_a_delivery_shows_what_the_wire_shows() -> None:
    entry = Entry(Cursor(7, 2), "step.output", "fetch", "2026-01-02T03:04:05.000000Z", b'{"x":1}', b'{"room":"n"}')
    assert Delivery.of("run", entry).as_json() == {
        "id": "7-2",
        "type": "step.output",
        "execution_id": "run",
        "step": "fetch",
        "ts": "2026-01-02T03:04:05.000000Z",
        "data": {"x": 1},
        "meta": {"room": "n"},
    }
    assert Delivery.of("run", entry, repeated=True).as_json()["repeated"] is True
    gap = Delivery.of("run", Gap(START, None, None, "expired"))
    assert gap.as_json() == {
        "id": "0-0",
        "type": "stream.gap",
        "execution_id": "run",
        "data": {"requested": "0-0", "earliest": None, "latest": None, "reason": "expired"},
    }
