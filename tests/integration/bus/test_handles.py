"""An execution in its submitter's hands: its handle, its labels, and the lists that know them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tailrace import (
    Bus,
    Entry,
    ExecutionCancelledError,
    ExecutionFailedError,
    ExecutionTimedOutError,
    ExecutionUnknownError,
    Handle,
    InvalidInputError,
    ResultLostError,
)
from tests.patience import patient

pytestmark = pytest.mark.anyio


async def end(bus: Bus, execution_id: str, event_type: str, data: Any) -> None:
    async with aclosing(bus.publisher(execution_id)) as publisher:
        await publisher.emit("step.progress", {"progress": 1})
        await publisher.emit(event_type, data)


async def test_a_handle_is_the_id_and_gives_state_events_and_result(bus: Bus) -> None:
    handle = await bus.submit("document", {"path": "/x"}, execution_id="e")
    assert isinstance(handle, Handle)
    assert (handle, f"{handle}", handle.id, type(handle.id)) == ("e", "e", "e", str)
    assert (await handle.state()).status == "queued"
    waiting = asyncio.create_task(bus.handle("e").result(timeout_seconds=patient(20)))
    async with bus.execution("e") as execution:
        await execution.emit("step.progress", {"progress": 0.5})
        await execution.complete({"answer": 42})
    assert await waiting == {"answer": 42}
    assert await handle.result() == {"answer": 42}
    async with aclosing(handle.events(types=["step.*"])) as events:
        shown = [item.type async for item in events if isinstance(item, Entry)]
    assert shown == ["step.progress", "execution.completed"]
    async with aclosing(handle.events(after="0")) as events:
        first = await anext(events)
    assert isinstance(first, Entry)
    assert first.type == "execution.queued"


@pytest.mark.parametrize(
    ("event_type", "error"),
    [
        ("execution.failed", ExecutionFailedError),
        ("execution.cancelled", ExecutionCancelledError),
        ("execution.timed_out", ExecutionTimedOutError),
    ],
)
async def test_a_result_raises_what_the_ending_says(bus: Bus, event_type: str, error: type[Exception]) -> None:
    await end(bus, "e", event_type, {"reason": "why", "message": "It broke."})
    with pytest.raises(error, match=r"execution e .*: It broke\.") as raised:
        await bus.handle("e").result()
    assert (raised.value.reason, raised.value.data["message"]) == ("why", "It broke.")  # type: ignore[attr-defined]


async def test_a_result_that_is_not_there_is_told_from_one_that_is_not_there_yet(bus: Bus) -> None:
    with pytest.raises(ExecutionUnknownError):
        await bus.handle("none").result()
    handle = await bus.submit("document", execution_id="e")
    with pytest.raises(TimeoutError):
        await handle.result(timeout_seconds=0.05)
    await end(bus, "old", "execution.completed", {"result": 1})
    await bus.commands.command("DEL", bus.keys.log("old"))
    with pytest.raises(ResultLostError, match="old has ended"):
        await bus.handle("old").result()


async def test_a_handle_asks_as_control_does(bus: Bus) -> None:
    handle = await bus.submit("document", execution_id="e")
    assert (await handle.pause(by="ann")).execution_id == "e"
    assert (await handle.signal("go", {"n": 1})).execution_id == "e"
    assert (await handle.resume()).execution_id == "e"
    assert (await handle.cancel(reason="enough")).status == "cancelled"
    with pytest.raises(ExecutionCancelledError, match="enough"):
        await handle.result()


async def test_labels_stand_in_the_state_and_find_executions_without_a_scan(bus: Bus) -> None:
    for number in range(4):
        labels = {"user": "ann" if number % 2 else "bob", "kind": "a" if number < 2 else "b"}
        await bus.submit("document", execution_id=f"e{number}", labels=labels, tenant="acme")
    async with bus.execution("own", labels={"user": "ann"}) as execution:
        await execution.emit("custom.x", 1)
    assert (await bus.handle("e1").state()).labels == {"user": "ann", "kind": "a"}
    assert (await bus.handle("own").state()).labels == {"user": "ann"}

    async def found(**query: Any) -> set[str]:
        return {state.execution_id for state in (await bus.list(**query)).items}

    assert await found(labels={"user": "ann"}) == {"e1", "e3", "own"}
    assert await found(labels={"user": "ann", "kind": "b"}) == {"e3"}
    assert await found(labels={"user": "ann"}, tenant="acme") == {"e1", "e3"}
    assert await found(labels={"user": "eve"}) == set()
    assert await found(labels={"user": "ann"}, status=["completed"]) == {"own"}
    first = await bus.list(labels={"user": "ann"}, limit=2)
    rest = await bus.list(labels={"user": "ann"}, limit=2, cursor=first.next)
    assert {state.execution_id for state in (*first.items, *rest.items)} == {"e1", "e3", "own"}
    counted = await bus.count(labels={"user": "ann"})
    assert (counted.by_status["queued"], len(counted.executions), counted.complete) == (2, 2, True)
    assert (await bus.count()).by_status["queued"] == 4
    for number in (1, 3):
        await bus.handle(f"e{number}").cancel()
    await bus.delete("e1")
    assert await found(labels={"user": "ann"}) == {"e3", "own"}


async def test_an_execution_keeps_the_labels_that_it_began_with(bus: Bus) -> None:
    await bus.submit("document", execution_id="e", labels={"user": "ann"})
    async with bus.execution("e", labels={"user": "eve"}) as execution:
        await execution.emit("custom.x", 1)
    assert (await bus.handle("e").state()).labels == {"user": "ann"}
    again = await bus.submit("document", execution_id="f", labels={"b": "2", "a": "1"})
    assert await bus.submit("document", execution_id="f", labels={"a": "1", "b": "2"}) == again
    with pytest.raises(Exception, match="exists"):
        await bus.submit("document", execution_id="f", labels={"a": "2"})


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"User": "ann"}, "labels"),
        ({"user": ""}, "labels.user"),
        ({"user": "a\nb"}, "labels.user"),
        ({"user": "x" * 129}, "labels.user"),
        ({"user": 7}, "labels.user"),
        ({f"l{number}": "x" for number in range(9)}, "labels"),
        ("user:ann", "labels"),
    ],
)
async def test_labels_that_cannot_be_used_are_refused_by_name(bus: Bus, labels: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await bus.submit("document", labels=labels)
    assert refused.value.field == field
    with pytest.raises(InvalidInputError):
        bus.execution("e", labels=labels)


async def test_the_activity_tells_whose_an_execution_is(bus: Bus) -> None:
    async with aclosing(bus.activity.follow(after="0")) as changes:
        await bus.submit("document", execution_id="e", labels={"user": "ann"})
        async with asyncio.timeout(patient(10)):
            change = await anext(changes)
    assert change.labels == {"user": "ann"}  # type: ignore[union-attr]
