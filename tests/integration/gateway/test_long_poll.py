"""``wait``: a page that would be empty waits for news, through the hub and never by asking again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.gateway.app import create_app
from tailrace.gateway.hub import Hub
from tailrace.gateway.settings import read_settings
from tests.e2e.waiting import eventually
from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.gateway.live import live_app, live_gateway
from tests.integration.gateway.test_events_page import publish
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

EVENTS = "/v1/executions/e/events"
PAGE = {"Accept": "application/json"}


async def head(client: httpx.AsyncClient) -> str:
    return str((await client.get(EVENTS, params={"last": 1})).json()["next"])


def watched_by(hub: Hub, count: int) -> Callable[[], Awaitable[bool]]:
    async def watched() -> bool:
        """So many viewers have joined."""
        return hub.viewers == count

    return watched


async def test_the_answer_comes_with_the_first_event_and_not_before(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 2, end=False)
    at = await head(client)
    waiting = asyncio.create_task(client.get(EVENTS, params={"after": at, "wait": 20}))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done

    begun = time.monotonic()
    await publish(bus, "e", 1, end=False)
    page = (await waiting).json()

    assert time.monotonic() - begun < stretched(5)
    assert [item["data"] for item in page["items"]] == [{"number": 0}]
    assert page["links"]["next"] == f"{EVENTS}?after={page['next']}&limit=100&wait=20"


async def test_what_is_there_already_is_not_waited_for(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 3)
    begun = time.monotonic()
    page = (await client.get(EVENTS, params={"wait": 20})).json()
    over = (await client.get(EVENTS, params={"after": page["next"], "wait": 20})).json()
    gap = (await client.get(EVENTS, params={"after": "9999999999999-9", "wait": 20})).json()

    assert time.monotonic() - begun < stretched(5)
    assert (len(page["items"]), page["ended"]) == (4, True)
    assert (over["items"], over["ended"]) == ([], True)
    assert gap["gap"]["reason"] == "rewound"


async def test_when_the_time_is_over_the_page_is_empty_and_its_cursor_is_the_same(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    await publish(bus, "e", 1, end=False)
    at = await head(client)
    begun = time.monotonic()
    page = (await client.get(EVENTS, params={"after": at, "wait": 0.3})).json()

    assert 0.25 < time.monotonic() - begun < stretched(5)
    assert (page["items"], page["next"], page["more"], page["ended"]) == ([], at, False, False)


async def test_an_ending_ends_the_waiting(bus: Bus, client: httpx.AsyncClient) -> None:
    async with bus.execution("e"):
        at = await head(client)
        waiting = asyncio.create_task(client.get(EVENTS, params={"after": at, "wait": 20}))
        await asyncio.wait([waiting], timeout=0.2)
    page = (await waiting).json()

    assert ([item["type"] for item in page["items"]], page["ended"]) == (["execution.completed"], True)


async def test_polling_on_gives_exactly_the_log(bus: Bus, client: httpx.AsyncClient) -> None:
    async def write() -> None:
        async with aclosing(bus.publisher("e")) as publisher:
            for number in range(200):
                await publisher.append("custom.count", {"number": number})
            await publisher.append("execution.completed", {})

    async def read() -> list[int]:
        seen: list[int] = []
        following: str | None = f"{EVENTS}?wait=20&limit=7"
        while following is not None:
            page = (await client.get(following, headers=PAGE)).json()
            assert "gap" not in page
            seen += [item["data"]["number"] for item in page["items"] if item["type"] == "custom.count"]
            following = page["links"]["next"]
        return seen

    await publish(bus, "e", 0, end=False)
    await bus.publisher("e").append("custom.begin")
    writing = asyncio.create_task(write())
    assert await asyncio.wait_for(read(), patient(30)) == list(range(200))
    await writing


async def test_many_who_wait_for_one_run_cost_one_watch_and_no_reads(bus: Bus) -> None:
    await publish(bus, "e", 1, end=False)
    limits = httpx.Limits(max_connections=60)
    app = create_app(bus, read_settings(drain_seconds=0))
    async with live_app(app) as url, httpx.AsyncClient(base_url=url, limits=limits, timeout=patient(30)) as client:
        at = await head(client)
        waiting = [asyncio.create_task(client.get(EVENTS, params={"after": at, "wait": 20})) for _ in range(50)]
        await eventually(watched_by(app.state.gateway.hub, 50))
        before = await commands_processed(bus)
        await asyncio.wait(waiting, timeout=1.0)
        # What the process itself asks in a second or two: polling, each of them would ask at least once more.
        assert await commands_processed(bus) - before < len(waiting)
        await publish(bus, "e", 1, end=False)
        pages = [answer.json() for answer in await asyncio.gather(*waiting)]
    assert {page["items"][0]["id"] for page in pages} == {pages[0]["items"][0]["id"]}


async def commands_processed(bus: Bus) -> int:
    info = await bus.commands.command("INFO", "stats")
    line = next(line for line in bytes(info).splitlines() if line.startswith(b"total_commands_processed:"))
    return int(line.partition(b":")[2])


async def test_who_hangs_up_leaves_nothing_behind(bus: Bus) -> None:
    await publish(bus, "e", 1, end=False)
    app = create_app(bus, read_settings(drain_seconds=0, linger_seconds=0))
    async with live_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        at = await head(client)
        hub = app.state.gateway.hub
        waiting = asyncio.create_task(client.get(EVENTS, params={"after": at, "wait": 50}))
        await eventually(watched_by(hub, 1))
        waiting.cancel()
        await eventually(watched_by(hub, 0))


async def test_a_gateway_that_drains_answers_at_once_and_closes(bus: Bus) -> None:
    await publish(bus, "e", 1, end=False)
    app = create_app(bus, read_settings(drain_seconds=0))
    async with httpx.AsyncClient() as client:
        async with live_app(app) as url:
            client.base_url = httpx.URL(url)
            at = await head(client)
            waiting = asyncio.create_task(client.get(EVENTS, params={"after": at, "wait": 50}))
            await eventually(watched_by(app.state.gateway.hub, 1))
        answer = await asyncio.wait_for(waiting, patient(10))
    assert (answer.status_code, answer.json()["items"], answer.headers["connection"]) == (200, [], "close")


async def test_the_newest_events_can_be_asked_for(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 20)
    newest = (await client.get(EVENTS, params={"last": 3})).json()
    everything = (await client.get(EVENTS, params={"last": 500})).json()

    assert [item["data"] for item in newest["items"]] == [{"number": 18}, {"number": 19}, {"result": 20}]
    assert len(everything["items"]) == 21
    assert "gap" not in newest
    assert "gap" not in everything


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("wait=-1", 422, "wait"),
        ("wait=51", 422, "wait"),
        ("wait=nan", 422, "wait"),
        ("wait=x", 422, "wait"),
        ("last=0", 422, "last"),
        ("last=1001", 422, "last"),
        ("last=5&limit=1001", 422, "limit"),
        ("last=5&after=0", 400, "last"),
    ],
)
async def test_what_cannot_be_waited_for_is_told_by_its_name(
    bus: Bus, client: httpx.AsyncClient, query: str, status: int, field: str
) -> None:
    await publish(bus, "e", 1)
    answer = await client.get(f"{EVENTS}?{query}", headers=PAGE)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


async def test_an_unknown_execution_is_not_waited_for(bus: Bus) -> None:
    async with live_gateway(bus) as url, httpx.AsyncClient(base_url=url) as client:
        assert (await client.get(EVENTS, params={"wait": 20})).status_code == 404


async def test_who_waits_counts_as_a_connection_and_is_listed(bus: Bus) -> None:
    await publish(bus, "e", 1, end=False)
    app = create_app(bus, read_settings(drain_seconds=0, max_connections=1))
    async with live_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        at = await head(client)
        waiting = asyncio.create_task(client.get(EVENTS, params={"after": at, "wait": 50}))
        await eventually(watched_by(app.state.gateway.hub, 1))
        refused = await client.get(EVENTS, params={"after": at, "wait": 50})
        (present,) = (await client.get("/v1/clients")).json()["items"]
        ended = await client.delete(f"/v1/clients/{present['id']}")
        answer = await asyncio.wait_for(waiting, patient(10))
        again = await client.get(EVENTS, params={"after": at, "wait": 0.01})

    assert (refused.status_code, refused.json()["code"]) == (503, "gateway_full")
    assert (present["kind"], ended.status_code) == ("long-poll", 202)
    assert (answer.status_code, answer.json()["items"], answer.headers["connection"]) == (200, [], "close")
    assert again.status_code == 200


async def test_who_waits_is_refused_when_its_credential_ends(bus: Bus) -> None:
    await bus.submit("document", execution_id="e", tenant="acme")
    async with (
        live_gateway(bus, read_settings(drain_seconds=0, jwt_hs256_keys=SECRET)) as url,
        httpx.AsyncClient(base_url=url, headers=Issuer().headers(seconds=2.0)) as client,
    ):
        at = await head(client)
        answer = await asyncio.wait_for(client.get(EVENTS, params={"after": at, "wait": 50}), patient(15))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
