from __future__ import annotations

from contextlib import aclosing

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.gateway.http.schemas import EventPage
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import live_gateway

pytestmark = pytest.mark.anyio

PAGE = {"Accept": "application/json"}


async def publish(bus: Bus, execution_id: str, count: int, *, end: bool = True) -> None:
    async with aclosing(bus.publisher(execution_id)) as publisher:
        for number in range(count):
            await publisher.emit("custom.count", {"number": number}, step="counting", meta={"m": number})
        if end:
            await publisher.emit("execution.completed", {"result": count})


async def walk(client: httpx.AsyncClient, url: str) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Follow the links to the end: all pages, all items."""
    pages, items = [], []
    following: str | None = url
    while following is not None:
        answer = await client.get(following, headers=PAGE)
        assert answer.status_code == 200, answer.text
        EventPage.model_validate(answer.json())
        pages.append(answer.json())
        items += pages[-1]["items"]
        following = pages[-1]["links"]["next"] if pages[-1]["more"] else None
    return pages, items


@pytest.mark.parametrize("limit", [1, 7, 64, 65, 200, 1000])
async def test_pages_put_together_are_the_log(bus: Bus, client: httpx.AsyncClient, limit: int) -> None:
    await publish(bus, "e", 200)
    pages, items = await walk(client, f"/v1/executions/e/events?limit={limit}")
    assert [item["data"] for item in items[:-1]] == [{"number": number} for number in range(200)]
    assert items[-1]["type"] == "execution.completed"
    assert all(len(page["items"]) <= limit for page in pages)  # type: ignore[arg-type]
    assert [page["ended"] for page in pages] == [False] * (len(pages) - 1) + [True]
    assert not any("gap" in page for page in pages)
    first = items[0]
    assert (first["execution_id"], first["step"], first["meta"]) == ("e", "counting", {"m": 0})
    assert str(first["id"]).endswith("-1")


async def test_a_page_begins_after_the_cursor(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 5, end=False)
    ids = [item["id"] for item in (await client.get("/v1/executions/e/events", headers=PAGE)).json()["items"]]
    page = (await client.get("/v1/executions/e/events", params={"after": ids[2]})).json()
    assert [item["id"] for item in page["items"]] == ids[3:]
    assert (page["next"], page["more"], page["ended"]) == (ids[4], False, False)


async def test_polling_at_the_head_gives_an_empty_page_and_the_same_cursor(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 2, end=False)
    head = (await client.get("/v1/executions/e/events", headers=PAGE)).json()["next"]
    page = (await client.get("/v1/executions/e/events", params={"after": head})).json()
    assert (page["items"], page["next"], page["more"], page["ended"]) == ([], head, False, False)
    assert page["links"]["next"] == f"/v1/executions/e/events?after={head}&limit=100"


async def test_after_the_ending_a_page_says_so(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 1)
    last = (await client.get("/v1/executions/e/events", headers=PAGE)).json()["next"]
    page = (await client.get("/v1/executions/e/events", params={"after": last})).json()
    assert (page["items"], page["ended"], page["links"]["next"]) == ([], True, None)


async def test_what_was_trimmed_is_told_as_a_gap(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 20, end=False)
    first = (await client.get("/v1/executions/e/events?limit=1", headers=PAGE)).json()["next"]
    await bus.commands.command("XTRIM", bus.keys.log("e"), "MAXLEN", 5)
    page = (await client.get("/v1/executions/e/events", params={"after": first})).json()
    assert (page["gap"]["requested"], page["gap"]["reason"]) == (first, "trimmed")
    assert page["gap"]["earliest"] == page["items"][0]["id"]
    assert len(page["items"]) == 5


async def test_a_hole_in_the_middle_is_told_between_two_pages(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 9)
    ids = [str(item["id"]) for item in (await walk(client, "/v1/executions/e/events?limit=100"))[1]]
    await bus.commands.command("XDEL", bus.keys.log("e"), ids[3], ids[4])
    pages, items = await walk(client, "/v1/executions/e/events?limit=100")
    assert [item["id"] for item in items] == ids[:3] + ids[5:]
    assert [page.get("gap", {}).get("reason") for page in pages] == [None, "hole"]  # type: ignore[attr-defined]


async def test_a_cursor_beyond_the_head_is_a_gap_at_once(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 2, end=False)
    page = (await client.get("/v1/executions/e/events", params={"after": "9999999999999-9"})).json()
    assert (page["gap"]["reason"], page["items"]) == ("rewound", [])
    assert page["next"] == page["gap"]["latest"]


async def test_heavy_events_make_a_short_page_with_more(bus: Bus, server_url: str) -> None:
    async with aclosing(bus.publisher("e")) as publisher:
        for _ in range(10):
            await publisher.emit("custom.heavy", "x" * 1000)
    async with (
        live_gateway(bus, read_settings(drain_seconds=0, page_bytes=2500)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        pages, items = await walk(client, "/v1/executions/e/events?limit=100")
    assert len(items) == 10
    assert [len(page["items"]) for page in pages] == [3, 3, 3, 1]  # type: ignore[arg-type]


async def test_bytes_are_shown_as_base64_and_hostile_entries_as_dropped(bus: Bus, client: httpx.AsyncClient) -> None:
    async with aclosing(bus.publisher("e")) as publisher:
        await publisher.emit("custom.bytes", b"\x00\xff")
    log = bus.keys.log("e")
    await bus.commands.command("XADD", log, "*", "t", "evil\ndata: x", "d", "{}")
    await bus.commands.command("XADD", log, "*", "t", "my.event", "d", '{"broken": ')
    await bus.commands.command("XADD", log, "*", "t", "my.event", "d", '{"line":\n1}')
    await bus.commands.command("XADD", log, "*", "whatever", b"\xff\xfe")
    items = (await client.get("/v1/executions/e/events", headers=PAGE)).json()["items"]
    assert (items[0]["data"], items[0]["encoding"]) == ("AP8=", "base64")
    assert [item["type"] for item in items[1:]] == ["dropped", "dropped", "my.event", "dropped"]
    assert items[3]["data"] == {"line": 1}


@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        ("", "application/json", "application/json"),
        ("?limit=5", "*/*", "application/json"),
        ("?after=0", None, "application/json"),
        ("", "text/event-stream", "text/event-stream"),
        ("?limit=5", "text/event-stream", "text/event-stream"),
        ("", "*/*", "text/event-stream"),
        ("", None, "text/event-stream"),
    ],
)
async def test_one_url_has_two_representations(
    bus: Bus, gateway_url: str, query: str, accept: str | None, content_type: str
) -> None:
    await publish(bus, "e", 1)
    async with httpx.AsyncClient(base_url=gateway_url) as client:
        if accept is None:
            del client.headers["accept"]
        headers = {} if accept is None else {"Accept": accept}
        answer = await client.get(f"/v1/executions/e/events{query}", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == content_type


async def test_pages_say_that_they_depend_on_accept_and_are_not_to_be_kept(bus: Bus, client: httpx.AsyncClient) -> None:
    await publish(bus, "e", 1)
    answer = await client.get("/v1/executions/e/events", headers=PAGE)
    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Accept, Origin", "no-store")


async def test_attack_68_a_page_has_only_what_its_filters_want_and_its_links_keep_them(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    async with aclosing(bus.publisher("e")) as publisher:
        for number in range(30):
            await publisher.emit("custom.wanted" if number % 3 == 0 else "custom.other", number, step=f"s{number % 2}")
        await publisher.emit("execution.completed", {})
    pages, items = await walk(client, "/v1/executions/e/events?limit=4&types=custom.wanted&step=s0")
    assert [item["data"] for item in items] == [0, 6, 12, 18, 24, {}]
    assert len(pages) == 2
    refused = await client.get("/v1/executions/e/events?limit=4&types=NO", headers=PAGE)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_input")


async def test_a_page_passes_over_so_many_entries_and_says_that_there_are_more(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    await publish(bus, "e", 2500)
    pages, items = await walk(client, "/v1/executions/e/events?limit=5&types=custom.rare")
    assert [item["type"] for item in items] == ["execution.completed"]
    assert [len(page["items"]) for page in pages] == [0, 0, 1]  # type: ignore[arg-type]
