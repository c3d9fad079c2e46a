"""Asking over a socket: acknowledged with the request, answered by an event that names it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tailrace.bus import Bus, Execution
from tests.integration.ws.client import JSON, MSGPACK, Client, Said, connected

pytestmark = pytest.mark.anyio

SUBPROTOCOLS = pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])


@asynccontextmanager
async def running(bus: Bus, execution_id: str = "a") -> AsyncGenerator[Execution, None]:
    """Counts, and waits for a signal between any two numbers for a moment."""
    entered = asyncio.Event()
    execution = bus.execution(execution_id)

    async def run() -> None:
        async with execution:
            entered.set()
            for number in range(100_000):
                await execution.append("custom.count", {"n": number})
                with suppress(TimeoutError):
                    await execution.append("custom.heard", (await execution.signal("go", 0.01)).data)

    task = asyncio.create_task(run())
    await entered.wait()
    try:
        yield execution
    finally:
        task.cancel()
        await asyncio.wait([task])


def answers(said: Said, request: str) -> bool:
    return said["op"] == "event" and isinstance(said["data"], dict) and said["data"].get("request") == request


async def told(client: Client, request: str) -> Said:
    return await client.until(lambda said: answers(said, request))


@SUBPROTOCOLS
async def test_a_socket_steers_what_it_watches_and_sees_what_becomes_of_it(
    bus: Bus, gateway_url: str, subprotocol: str
) -> None:
    async with running(bus), connected(f"{gateway_url}/v1/ws", subprotocol) as client:
        await client.ask("subscribe", execution="a")
        asked = [
            (await client.ask("pause", execution="a", by="ann"), "execution.paused"),
            (await client.ask("resume", execution="a"), "execution.resumed"),
            (await client.ask("signal", execution="a", name="go", data={"x": [1]}), "execution.signalled"),
        ]
        assert (await client.until(lambda said: said.get("type") == "custom.heard"))["data"] == {"x": [1]}
        asked.append((await client.ask("cancel", execution="a", reason="enough"), "execution.cancelled"))
        assert (await client.until("end"))["status"] == "cancelled"
    assert [answer["op"] for answer, _ in asked] == ["accepted"] * 4
    assert asked[-1][0]["status"] == "cancelling"
    for answer, event_type in asked:
        (event,) = [said for said in client.said if answers(said, answer["request"])]
        assert event["type"] == event_type


async def test_who_watches_nothing_may_ask_all_the_same(bus: Bus, gateway_url: str) -> None:
    async with running(bus), connected(f"{gateway_url}/v1/ws") as client:
        accepted = await client.ask("pause", execution="a")
        assert (accepted["op"], accepted["execution"]) == ("accepted", "a")


async def test_a_socket_for_one_execution_asks_that_one_only(bus: Bus, gateway_url: str) -> None:
    async with running(bus), connected(f"{gateway_url}/v1/executions/a/ws") as client:
        error = await client.ask("cancel", execution="b")
        assert (error["code"], error["field"]) == ("one_execution_only", "execution")
        accepted = await client.ask("cancel", execution="a")
        assert (await told(client, accepted["request"]))["type"] == "execution.cancelled"
        assert await client.closed() == 1000


@pytest.mark.parametrize(
    ("members", "code", "field"),
    [
        ({"op": "cancel", "execution": "nobody"}, "execution_unknown", None),
        ({"op": "cancel", "execution": "over"}, "execution_closed", None),
        ({"op": "pause", "execution": "alone"}, "transition_refused", None),
        ({"op": "pause", "execution": "../a"}, "invalid_execution_id", "execution"),
        ({"op": "cancel", "execution": "over", "reason": "a\nb"}, "invalid_input", "reason"),
        ({"op": "signal", "execution": "over", "name": "\x00"}, "invalid_input", "name"),
        (
            {"op": "signal", "execution": "over", "name": "go", "data": "\x00" * 12_000},
            "event_too_large",
            "data",
        ),
        ({"op": "signal", "execution": "over"}, "missing_field", "name"),
    ],
)
async def test_what_cannot_be_asked_is_an_error_and_the_socket_lives(
    bus: Bus, gateway_url: str, members: dict[str, Any], code: str, field: str | None
) -> None:
    async with bus.execution("over"):
        pass
    publisher = bus.publisher("alone")
    await publisher.append("a")
    await publisher.aclose()
    async with connected(f"{gateway_url}/v1/ws", MSGPACK) as client:
        error = await client.ask(**members)
        assert (error["op"], error["code"], error.get("field")) == ("error", code, field)
        assert (await client.ask("ping"))["op"] == "pong"
