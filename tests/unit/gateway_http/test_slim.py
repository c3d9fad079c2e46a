"""What stands in for asyncio's and collections' own must do what uvicorn needs of them."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http import flow_control, httptools_impl

from tailrace.gateway.asgi.slim import SlimEvent, SlimQueue
from tailrace.gateway.asgi.uvicorn_internals import SlimFlow

pytestmark = pytest.mark.anyio


@given(acts=st.lists(st.sampled_from(["set", "clear", "wait", "cancel", "turn"]), max_size=30))
def test_a_slim_event_lets_those_go_on_whom_asyncios_would(acts: list[str]) -> None:
    async def play() -> None:
        events: list[Any] = [asyncio.Event(), SlimEvent()]
        waiting: list[list[asyncio.Task[bool]]] = [[], []]
        for act in acts:
            for event, tasks in zip(events, waiting, strict=True):
                match act:
                    case "wait":
                        tasks.append(asyncio.create_task(event.wait()))
                    case "cancel" if tasks:
                        tasks[len(tasks) // 2].cancel()
                    case "set" | "clear":
                        getattr(event, act)()
            if act == "turn":
                await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        states = [[(task.done(), task.done() and task.cancelled()) for task in tasks] for tasks in waiting]
        for task in [*waiting[0], *waiting[1]]:
            task.cancel()
        await asyncio.gather(*waiting[0], *waiting[1], return_exceptions=True)
        assert states[0] == states[1]

    asyncio.run(play())


@given(acts=st.lists(st.one_of(st.integers(), st.none()), max_size=30))
def test_a_slim_queue_gives_what_came_first(acts: list[int | None]) -> None:
    slim, whole = SlimQueue(), deque[int]()
    for item in acts:
        if item is not None:
            slim.appendleft(item)
            whole.appendleft(item)
        elif whole:
            assert slim.pop() == whole.pop()
        assert bool(slim) is bool(whole)


async def test_a_slim_flow_has_all_that_uvicorns_has() -> None:
    transport: Any = object()
    assert vars(SlimFlow(transport)).keys() == vars(flow_control.FlowControl(transport)).keys()


def test_uvicorn_asks_of_them_what_they_can() -> None:
    """A new uvicorn that asks more fails here, and not under load."""
    source = inspect.getsource(httptools_impl)
    for holder, slim in (("message_event.", SlimEvent), ("pipeline.", SlimQueue)):
        asked = {part.split("(")[0] for part in source.split(holder)[1:]}
        assert asked
        assert all(hasattr(slim, name) for name in asked)
    asked = {part.split("(")[0] for part in inspect.getsource(flow_control).split("_is_writable_event.")[1:]}
    assert {"set", "clear", "wait"} >= asked
