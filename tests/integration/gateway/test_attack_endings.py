"""What viewers are told of an execution's status and end is what its state says, and nothing follows the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import httpx
import orjson
import pytest
import websockets

from tailrace.bus import Bus, Entry
from tailrace.bus.model.cursor import parse
from tailrace.bus.model.entry import Gap
from tailrace.cli.actions.show import show_overview
from tests.integration.gateway.test_events_page import publish
from tests.patience import patient

pytestmark = pytest.mark.anyio

EVENTS = "/v1/executions/e/events"
PAGE = {"Accept": "application/json"}
Frames = AsyncGenerator[dict[str, Any], None]
Wire = Callable[[httpx.AsyncClient], Frames]


async def by_sse(client: httpx.AsyncClient, url: str = EVENTS) -> Frames:
    async with client.stream("GET", url, timeout=patient(30)) as answer:
        event = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield {**orjson.loads(line.removeprefix("data: ")), "type": event}


def by_multiplex(client: httpx.AsyncClient) -> Frames:
    return by_sse(client, "/v1/stream?execution=e")


async def by_ndjson(client: httpx.AsyncClient) -> Frames:
    accept = {"Accept": "application/x-ndjson"}
    async with client.stream("GET", EVENTS, headers=accept, timeout=patient(30)) as answer:
        async for line in answer.aiter_lines():
            yield orjson.loads(line)


async def by_websocket(client: httpx.AsyncClient) -> Frames:
    address = f"{str(client.base_url).replace('http', 'ws', 1)}/v1/ws"
    async with websockets.connect(address) as socket:
        await socket.send(orjson.dumps({"op": "subscribe", "id": 1, "execution": "e"}).decode(), text=True)
        async for frames in socket:
            for told in orjson.loads(frames):
                kind = {"subscribed": "stream.open", "end": "stream.end"}.get(told["op"])
                yield {**told, "type": kind or told.get("type", told["op"])}
                if kind == "stream.end":
                    return


WIRES: tuple[Wire, ...] = (by_sse, by_multiplex, by_ndjson, by_websocket)


async def until(frames: Frames, kind: str) -> dict[str, Any]:
    async for frame in frames:
        if frame["type"] == kind:
            return frame
    raise AssertionError(f"the stream ended without {kind}")


async def status(client: httpx.AsyncClient) -> str:
    return str((await client.get("/v1/executions/e")).json()["status"])


@pytest.mark.parametrize("wire", WIRES)
async def test_attack_12_a_viewer_is_told_the_status_that_the_state_has(
    bus: Bus, client: httpx.AsyncClient, wire: Wire
) -> None:
    async with aclosing(bus.publisher("e")) as publisher:
        await publisher.append("execution.started")
        async with aclosing(wire(client)) as first:
            assert (await until(first, "stream.open"))["status"] == "running"
            for event_type, expected in (
                ("execution.signalled", "running"),
                ("execution.paused", "paused"),
                ("execution.resumed", "running"),
                ("execution.cancel_requested", "cancelling"),
            ):
                await publisher.append(event_type)
                await until(first, event_type)
                async with aclosing(wire(client)) as second:
                    told = (await until(second, "stream.open"))["status"]
                assert told == await status(client) == expected
            await publisher.append("execution.cancelled")
            end = await until(first, "stream.end")
    assert end["status"] == "cancelled"


async def ended_and_written_on(bus: Bus) -> tuple[str, str]:
    """The ids of the ending, and of what another program wrote behind it."""
    await publish(bus, "e", 3)
    state = await bus.log.state("e")
    assert state is not None
    assert state.terminal is not None
    key = bus.keys.log("e")
    same_ms = f"{state.terminal.ms}-{state.terminal.n + 1}"
    ours = ("t", "custom.late", "ts", "2026-01-02T03:04:05.678901Z", "d", "{}")
    await bus.commands.command("XADD", key, same_ms, *ours)
    late = await bus.commands.command("XADD", key, "*", "t", "custom.late", "d", "{}")
    return str(state.terminal), late.decode()


async def test_attack_13_no_page_has_anything_behind_the_ending(bus: Bus, client: httpx.AsyncClient) -> None:
    terminal, late = await ended_and_written_on(bus)
    for asked in ({"last": "3"}, {"limit": "2"}, {"after": terminal, "wait": "5"}, {"after": late, "wait": "5"}):
        items: list[dict[str, Any]] = []
        page = {"links": {"next": f"{EVENTS}?{httpx.QueryParams(asked)}"}, "next": ""}
        while page["links"]["next"]:  # type: ignore[index]
            page = (await client.get(page["links"]["next"], headers=PAGE)).json()  # type: ignore[index]
            items += page.get("items", [])
        assert page["next"] == terminal
        assert [item["type"] for item in items[-1:]] == ([] if "after" in asked else ["execution.completed"])
        assert len(items) == {"last": 3, "limit": 4, "after": 0}[next(iter(asked))]


async def test_attack_13_the_state_and_the_command_line_end_with_the_ending(
    bus: Bus, client: httpx.AsyncClient, server_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal, _ = await ended_and_written_on(bus)
    assert (await client.get("/v1/executions/e")).json()["last"] == terminal
    await show_overview("e", [str(client.base_url)], None, events=3, as_json=True)
    shown = orjson.loads(capsys.readouterr().out)
    assert [item["type"] for item in shown["page"]["items"]] == ["custom.count", "custom.count", "execution.completed"]
    assert shown["state"]["last"] == terminal


async def test_attack_13_a_follower_behind_the_ending_returns_at_once(bus: Bus) -> None:
    terminal, late = await ended_and_written_on(bus)

    async def follow(after: str) -> list[Entry | Gap]:
        return [item async for item in bus.follow("e", parse(after))]

    async with asyncio.timeout(patient(5)):  # a check of what is quiet would come after 15 s
        assert await follow(terminal) == []
        assert await follow(late) == []
        assert [item.is_terminal for item in await follow("0-0") if isinstance(item, Entry)] == [False] * 3 + [True]


@pytest.mark.parametrize("wire", WIRES)
async def test_attack_13_every_stream_ends_with_the_ending_and_names_its_id(
    bus: Bus, client: httpx.AsyncClient, wire: Wire
) -> None:
    terminal, _ = await ended_and_written_on(bus)
    async with aclosing(wire(client)) as frames:
        types = [(frame["type"], frame.get("cursor")) async for frame in frames]
    assert "custom.late" not in dict(types)
    assert dict(types)["stream.end"] == terminal


async def test_attack_13_a_viewer_from_behind_the_ending_is_told_the_end_alone(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    terminal, late = await ended_and_written_on(bus)
    async with aclosing(by_sse(client, f"{EVENTS}?from={late}")) as frames:
        told = [frame async for frame in frames]
    # The cursor with which a reconnect finds out that it has ended.
    assert [frame["type"] for frame in told] == ["stream.open", "stream.cursor", "stream.end"]
    assert told[-1]["cursor"] == terminal
