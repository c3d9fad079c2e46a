"""GET /v1/executions: filters, and pages that neither repeat nor skip."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.bus.queries.listing import MAX_LOOKED_AT
from tailrace.gateway.http.schemas import ExecutionList

pytestmark = pytest.mark.anyio

LIST = "/v1/executions"


async def submit(bus: Bus, *names: str, pipeline: str = "document") -> None:
    for name in names:
        await bus.submit(pipeline, {}, execution_id=name)


async def ids(client: httpx.AsyncClient, **params: Any) -> list[str]:
    return [item["execution_id"] for page in await pages(client, **params) for item in page["items"]]


async def pages(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    answer = await client.get(LIST, params=params)
    while True:
        assert answer.status_code == 200, answer.text
        ExecutionList.model_validate(answer.json())
        found.append(answer.json())
        following = found[-1]["links"]["next"]
        if following is None:
            return found
        answer = await client.get(following)


async def test_the_newest_comes_first_with_what_one_wants_to_know_of_it(bus: Bus, client: httpx.AsyncClient) -> None:
    await submit(bus, "a", "b")
    async with bus.execution("b", pipeline="document"):
        page = (await client.get(LIST)).json()
        newest, oldest = sorted(page["items"], key=lambda item: str(item["execution_id"]), reverse=True)

    assert [item["execution_id"] for item in page["items"]] in (["b", "a"], ["a", "b"])
    assert (newest["status"], newest["pipeline"], newest["attempt"]) == ("running", "document", 1)
    assert newest["owner"].startswith(bus.name)
    assert newest["links"]["events"] == "/v1/executions/b/events"
    assert (oldest["status"], oldest["owner"], oldest["started"], oldest["ended"]) == ("queued", None, None, None)
    assert (page["next"], page["links"]) == (None, {"next": None})


@pytest.mark.parametrize("limit", [1, 2, 7, 50])
async def test_pages_put_together_are_all_though_new_ones_come_meanwhile(
    bus: Bus, client: httpx.AsyncClient, limit: int
) -> None:
    names = [f"run-{number}" for number in range(25)]
    # Many within one millisecond.
    await asyncio.gather(*(submit(bus, name) for name in names))
    seen: list[str] = []
    following: str | None = f"{LIST}?limit={limit}"
    number = 0
    while following is not None:
        page = (await client.get(following)).json()
        assert len(page["items"]) <= limit
        seen += [item["execution_id"] for item in page["items"]]
        following = page["links"]["next"]
        await submit(bus, f"late-{number}")
        number += 1
    assert sorted(seen) == sorted(names)


async def test_filters_choose_and_stay_in_the_link_of_the_next_page(bus: Bus, client: httpx.AsyncClient) -> None:
    await submit(bus, "a", "b", "c")
    await submit(bus, "other", pipeline="command")
    async with bus.execution("b"):
        pass
    assert await ids(client, status="completed") == ["b"]
    assert sorted(await ids(client, status=["completed", "queued"], limit=1)) == ["a", "b", "c", "other"]
    assert await ids(client, pipeline="command") == ["other"]
    assert sorted(await ids(client, pipeline="document", status="queued", limit=1)) == ["a", "c"]
    assert await ids(client, status="failed") == []


async def test_the_time_of_creation_chooses(bus: Bus, client: httpx.AsyncClient) -> None:
    for name, created_ms in (("old", 1_000_000), ("middle", 2_000_000), ("new", 3_000_000)):
        await submit(bus, name)
        await bus.index.note(name, None, created_ms)
    after, before = "1970-01-01T00:33:20Z", "1970-01-01T00:50:00Z"  # 2,000 s and 3,000 s

    assert await ids(client) == ["new", "middle", "old"]
    assert await ids(client, created_after=after) == ["new", "middle"]
    assert await ids(client, created_before=before) == ["middle", "old"]
    assert await ids(client, created_after=after, created_before=before) == ["middle"]


async def test_a_tenants_list_is_its_own(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.submit("document", {}, execution_id="mine", tenant="me")
    await bus.submit("document", {}, execution_id="yours", tenant="you")
    await submit(bus, "nobodys")

    assert await ids(client, tenant="me") == ["mine"]
    assert sorted(await ids(client)) == ["mine", "nobodys", "yours"]
    assert await ids(client, tenant="nobody-there") == []


async def test_what_is_forgotten_is_not_listed(bus: Bus, client: httpx.AsyncClient) -> None:
    await submit(bus, "a", "b")
    await bus.commands.command("DEL", bus.keys.meta("a"))
    assert await ids(client) == ["b"]


async def test_a_page_ends_where_its_work_is_too_much_and_the_next_goes_on(bus: Bus, client: httpx.AsyncClient) -> None:
    await submit(bus, "needle")
    await bus.index.note("needle", None, 1)
    gone = [part for number in range(MAX_LOOKED_AT + 200) for part in (1000 + number, f"gone-{number}")]
    await bus.commands.command("ZADD", bus.keys.executions(None), *gone)
    first, second = await pages(client)
    assert first["items"] == []
    assert [item["execution_id"] for item in second["items"]] == ["needle"]


async def test_what_was_begun_over_http_is_listed(client: httpx.AsyncClient) -> None:
    await client.post(f"{LIST}/told/events", json={"type": "custom.a"})
    await client.post(f"{LIST}/told/events", json={"type": "custom.b"})
    assert await ids(client) == ["told"]


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("limit=0", 422, "limit"),
        ("limit=501", 422, "limit"),
        ("status=dead", 422, "status.0"),
        ("pipeline=A", 400, "pipeline"),
        ("created_after=yesterday", 400, "created_after"),
        ("created_before=2026-01-01", 400, "created_before"),
        ("cursor=1", 400, "cursor"),
        ("cursor=1-a%0Ab", 400, "cursor"),
        ("tenant=", 422, "tenant"),
    ],
)
async def test_what_cannot_be_asked_is_told_by_its_name(
    client: httpx.AsyncClient, query: str, status: int, field: str
) -> None:
    answer = await client.get(f"{LIST}?{query}")
    assert (answer.status_code, answer.json()["field"]) == (status, field)


async def test_labels_choose_what_is_listed_and_counted(bus: Bus, client: httpx.AsyncClient) -> None:
    for name, user in (("a", "ann"), ("b", "bob"), ("c", "ann")):
        given = {"pipeline": "document", "execution_id": name, "labels": {"user": user, "of": name}}
        assert (await client.post(LIST, json=given)).is_success
    assert (await client.get(f"{LIST}/a")).json()["labels"] == {"user": "ann", "of": "a"}
    assert sorted(await ids(client, label="user:ann")) == ["a", "c"]
    assert sorted(await ids(client, label="user:ann", limit=1)) == ["a", "c"]
    assert await ids(client, label=["user:ann", "of:c"]) == ["c"]
    stats = (await client.get("/v1/stats", params={"label": "user:ann"})).json()["executions"]
    assert (stats["total"], stats["by_status"]["queued"]) == (2, 2)
    refused = (await client.get(LIST, params={"label": "ann"})).json()
    assert (refused["code"], refused["field"]) == ("invalid_input", "label")
    wrong = await client.post(LIST, json={"pipeline": "document", "labels": {"User": "x"}})
    assert (wrong.status_code, wrong.json()["field"]) == (400, "labels")
