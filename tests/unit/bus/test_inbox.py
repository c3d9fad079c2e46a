"""Signals wait until they are asked for: in order, once each, and no more of them than there is room for."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus.model.control_request import ControlRequest
from tailrace.bus.model.counters import Counters
from tailrace.bus.ownership.deadline import ExecutionDeadline
from tailrace.bus.ownership.signals import MAX_SIGNALS, Signal, SignalInbox
from tests.patience import patient


def signal(number: int, name: str = "go") -> ControlRequest:
    return ControlRequest(f"7-{number}", "execution.signal_requested", "ann", name=name, data=number)


def test_signals_are_given_out_by_name_in_order_and_once() -> None:
    inbox = SignalInbox("run", Counters())
    for number, name in enumerate(("go", "other", "go")):
        inbox.put(signal(number, name))
    assert inbox.take("go") == Signal("go", 0, "ann", "7-0")
    assert inbox.take("go") == Signal("go", 2, "ann", "7-2")
    assert inbox.take("go") is None
    assert inbox.take("other") == Signal("other", 1, "ann", "7-1")


def test_the_oldest_gives_way_and_is_counted() -> None:
    counters = Counters()
    inbox = SignalInbox("run", counters)
    for number in range(MAX_SIGNALS + 3):
        inbox.put(signal(number))
    first = inbox.take("go")
    assert first is not None
    assert first.data == 3
    assert counters["signals_dropped"] == 3


@pytest.mark.anyio
async def test_all_who_wait_look_again_when_something_comes() -> None:
    inbox = SignalInbox("run", Counters())
    waiting = [asyncio.create_task(inbox.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    inbox.put(signal(1))
    await asyncio.wait_for(asyncio.gather(*waiting), patient(1))


@pytest.mark.anyio
async def test_a_deadline_stands_still_while_it_is_held() -> None:
    called = asyncio.Event()
    deadline = ExecutionDeadline(0.05, called.set)
    deadline.run()
    deadline.hold()
    await asyncio.sleep(0.1)
    assert not called.is_set()
    deadline.run()
    await asyncio.wait_for(called.wait(), patient(1))


@pytest.mark.anyio
async def test_a_deadline_that_was_stopped_or_has_no_end_never_calls() -> None:
    calls: list[int] = []
    for seconds in (0.01, None):
        deadline = ExecutionDeadline(seconds, lambda: calls.append(1))
        deadline.run()
        deadline.stop()
        deadline.run()
    await asyncio.sleep(0.05)
    assert calls == []
