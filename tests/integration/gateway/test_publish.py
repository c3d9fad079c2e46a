"""POST /v1/executions/{id}/events: one event, or a batch; once, in order, and what was not taken is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.gateway.http.publishing import Published
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import live_gateway

pytestmark = pytest.mark.anyio

EVENTS = "/v1/executions/e/events"
NDJSON = {"Content-Type": "application/x-ndjson"}


async def send(client: httpx.AsyncClient, events: Iterable[Any], **params: Any) -> httpx.Response:
    body = "".join(f"{event if isinstance(event, str) else json.dumps(event)}\n" for event in events)
    return await client.post(EVENTS, content=body, headers=NDJSON, params=params)


async def logged(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    page = (await client.get(EVENTS, params={"limit": 1000})).json()
    assert "gap" not in page
    items: list[dict[str, Any]] = page["items"]
    return items


def statuses(answer: httpx.Response) -> list[str]:
    Published.model_validate(answer.json())
    return [item["status"] for item in answer.json()["items"]]


async def test_an_event_is_in_the_log_under_the_id_that_is_answered(client: httpx.AsyncClient) -> None:
    given = {"type": "step.progress", "step": "fetch", "data": {"progress": 0.4}, "meta": {"trace": "a"}}
    answer = await client.post(EVENTS, json={**given, "ts": "2026-01-02T03:04:05Z"})
    (item,) = await logged(client)

    assert answer.status_code == 200
    assert answer.json()["items"] == [{"line": 1, "status": "written", "id": item["id"]}]
    assert item == {**given, "id": item["id"], "execution_id": "e", "ts": "2026-01-02T03:04:05.000000Z"}


async def test_a_batch_keeps_its_order_and_tells_every_id(client: httpx.AsyncClient) -> None:
    answer = await send(client, ({"type": "custom.count", "data": number} for number in range(500)))
    items = await logged(client)

    assert answer.status_code == 200
    assert [item["data"] for item in items] == list(range(500))
    assert [item["id"] for item in answer.json()["items"]] == [item["id"] for item in items]
    assert (answer.json()["written"], answer.json()["failed"]) == (500, 0)


async def test_what_is_sent_again_is_in_the_log_once(client: httpx.AsyncClient) -> None:
    batch = [{"type": "custom.count", "data": number} for number in range(10)]
    first = await send(client, batch[:6], producer="p", seq=1)
    again = await send(client, batch[:6], producer="p", seq=1)
    more = await send(client, batch, producer="p", seq=1)
    by_line = await send(client, [{**batch[3], "producer": "p", "seq": 4}])
    by_header = await client.post(EVENTS, json=batch[9], headers={"Tailrace-Producer": "p", "Tailrace-Seq": "10"})

    assert [statuses(answer) for answer in (first, again, more, by_line, by_header)] == [
        ["written"] * 6,
        ["duplicate"] * 6,
        ["duplicate"] * 6 + ["written"] * 4,
        ["duplicate"],
        ["duplicate"],
    ]
    assert {answer.status_code for answer in (first, again, more, by_line, by_header)} == {200}
    assert [item["data"] for item in await logged(client)] == list(range(10))


async def test_twenty_at_once_with_one_number_append_one_event(client: httpx.AsyncClient) -> None:
    url = f"{EVENTS}?producer=p&seq=1"
    answers = await asyncio.gather(*(client.post(url, json={"type": "a"}) for _ in range(20)))
    assert sorted(status for answer in answers for status in statuses(answer)) == ["duplicate"] * 19 + ["written"]
    assert len(await logged(client)) == 1


async def test_without_a_producer_every_line_is_judged_by_itself(client: httpx.AsyncClient) -> None:
    answer = await send(client, [{"type": "a"}, "{", {"type": "A"}, {"type": "b"}])

    assert (answer.status_code, statuses(answer)) == (207, ["written", "refused", "refused", "written"])
    assert [item["type"] for item in await logged(client)] == ["a", "b"]
    refused = answer.json()["items"][1:3]
    assert [(item["line"], item["problem"]["code"]) for item in refused] == [(2, "invalid_json"), (3, "invalid_event")]
    assert (answer.json()["written"], answer.json()["failed"]) == (2, 2)


async def test_behind_a_refused_number_nothing_of_its_producer_is_tried_and_all_can_be_mended(
    client: httpx.AsyncClient,
) -> None:
    broken = [{"type": "a"}, {"type": "B"}, {"type": "c"}, {"type": "other", "producer": "q", "seq": 1}]
    mended = [{"type": "a"}, {"type": "b"}, {"type": "c"}]
    first = await send(client, broken, producer="p", seq=1)
    second = await send(client, mended, producer="p", seq=1)

    assert statuses(first) == ["written", "refused", "not_tried", "written"]
    assert statuses(second) == ["duplicate", "written", "written"]
    assert [item["type"] for item in await logged(client)] == ["a", "other", "b", "c"]


async def test_a_whole_life_can_be_told_over_http(bus: Bus, client: httpx.AsyncClient) -> None:
    life = ["execution.started", "log", "execution.completed", "log"]
    answer = await send(client, ({"type": event_type} for event_type in life), producer="p", seq=1)

    assert (answer.status_code, statuses(answer)) == (207, ["written"] * 3 + ["refused"])
    assert answer.json()["items"][3]["problem"]["code"] == "execution_closed"
    assert (await client.get("/v1/executions/e")).json()["status"] == "completed"
    late = await client.post(EVENTS, json={"type": "log"})
    assert (late.status_code, late.json()["code"]) == (409, "execution_closed")


async def test_the_owners_life_cycle_is_not_for_others_but_their_events_are(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    async with bus.execution("e") as execution:
        fence = execution.fence
        ending = {"type": "execution.completed"}
        refused = await send(client, [{"type": "a"}, ending, {"type": "b"}])
        stale = await client.post(EVENTS, json=ending, params={"fence": f"99:{fence.secret}"})
        forged = await client.post(EVENTS, json=ending, headers={"Tailrace-Fence": f"{int(fence) + 1}:0f1e"})
        proved = await client.post(EVENTS, json={"type": "c"}, params={"fence": fence.token})
        await execution.append("custom.own")

    assert statuses(refused) == ["written", "refused", "written"]
    assert refused.json()["items"][1]["problem"]["code"] == "transition_refused"
    assert [(answer.status_code, answer.json()["code"]) for answer in (stale, forged)] == [
        (409, "execution_held"),
        (409, "execution_held"),
    ]
    assert proved.status_code == 200
    types = [item["type"] for item in await logged(client)]
    assert types == ["execution.started", "a", "b", "c", "custom.own", "execution.completed"]


async def test_attack_42_the_number_of_a_fence_ends_nothing_and_a_submitted_execution_is_its_workers(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    ending = {"type": "execution.completed", "data": {"result": "forged"}}
    await bus.submit("document", execution_id="e")
    queued = [await client.post(EVENTS, json={"type": kind}) for kind in ("execution.started", "execution.failed")]
    assert [(answer.status_code, answer.json()["code"]) for answer in queued] == [(409, "transition_refused")] * 2
    async with bus.execution("e") as execution:
        number = int(execution.fence)
        tokens = (f"{number}:0f1e2d3c4b5a6978", f"{number}:0")
        forged = [await client.post(EVENTS, json=ending, params={"fence": token}) for token in tokens]
        told = [answer.json() for answer in forged]
    assert [answer.status_code for answer in forged] == [409, 409]
    assert not any(execution.fence.secret in str(each) or "fence is" in str(each) for each in told)
    assert (await client.get("/v1/executions/e")).json()["status"] == "completed"
    assert "forged" not in str(await logged(client))


async def test_the_bus_own_producers_cannot_be_impersonated(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.submit("document", execution_id="e")
    answer = await client.post(EVENTS, json={"type": "a"}, params={"producer": "submit", "seq": 1})
    assert statuses(answer) == ["written"]
    assert [item["type"] for item in await logged(client)] == ["execution.queued", "a"]


@pytest.mark.parametrize(
    ("params", "headers", "status", "field"),
    [
        ({"producer": "p"}, {}, 400, "seq"),
        ({"seq": 1}, {}, 400, "producer"),
        ({"producer": "p", "seq": 1}, {"Tailrace-Producer": "q"}, 400, "producer"),
        ({"producer": "a b", "seq": 1}, {}, 422, "producer"),
        ({"producer": "p", "seq": 0}, {}, 422, "seq"),
        ({"producer": "p", "seq": 2**60}, {}, 422, "seq"),
        ({"fence": "1"}, {}, 422, "fence"),
        ({"fence": "²:a"}, {}, 422, "fence"),
        ({"producer": "p"}, {"Tailrace-Seq": "x"}, 422, "Tailrace-Seq"),
    ],
    ids=str,
)
async def test_an_origin_that_cannot_be_is_told_by_its_name(
    client: httpx.AsyncClient, *, params: dict[str, Any], headers: dict[str, str], status: int, field: str
) -> None:
    answer = await client.post(EVENTS, json={"type": "a"}, params=params, headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"", "application/json", 400, "invalid_json"),
        (b"", "application/x-ndjson", 400, "invalid_json"),
        (b"[]", "application/json", 422, "invalid_request"),
        (b'{"type":"A"}', "application/json", 400, "invalid_event"),
        (b'{"type":"a"}', "text/plain", 415, "unsupported_media_type"),
        (b'{"type":"a","data":"' + b"x" * 300_000 + b'"}', "application/json", 413, "event_too_large"),
        (b'{"type":"a"}\n' * 1001, "application/x-ndjson", 413, "too_many_events"),
        (b" " * 2_000_000, "application/x-ndjson", 413, "body_too_large"),
        (b'{"type":"a","data":' + b"[" * 900 + b"]" * 900 + b"}", "application/json", 400, "invalid_event"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else None,
)
async def test_a_body_that_cannot_be_taken_is_a_problem_and_leaves_nothing(
    bus: Bus, client: httpx.AsyncClient, content: bytes, media_type: str, *, status: int, code: str
) -> None:
    answer = await client.post(EVENTS, content=content, headers={"Content-Type": media_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not await bus.log.exists("e")


async def test_a_key_that_is_no_log_is_a_conflict(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.commands.command("SET", bus.keys.log("e"), "no log")
    answer = await client.post(EVENTS, json={"type": "a"})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_a_log")


async def test_a_viewer_sees_what_was_published_over_another_gateway(bus: Bus) -> None:
    async with (
        live_gateway(bus) as one,
        live_gateway(bus, read_settings(drain_seconds=0)) as other,
        httpx.AsyncClient(base_url=one) as publisher,
        httpx.AsyncClient(base_url=other) as viewer,
    ):
        await send(publisher, [{"type": "execution.started"}])
        watching = asyncio.create_task(viewer.get(EVENTS, headers={"Accept": "application/x-ndjson"}))
        await send(publisher, [*({"type": "log", "data": n} for n in range(50)), {"type": "execution.completed"}])
        lines = [json.loads(line) for line in (await watching).text.splitlines() if line]
    assert [line["data"] for line in lines if line["type"] == "log"] == list(range(50))
    assert lines[-1]["status"] == "completed"


async def test_a_number_left_out_is_told_to_every_reader_and_cannot_come_later(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post(EVENTS, json={"type": "custom.count", "data": seq}, params={"producer": "p", "seq": seq})
        for seq in (1, 3, 2)
    ]
    page = (await client.get(EVENTS, params={"limit": 100})).json()
    rest = (await client.get(page["links"]["next"])).json()

    assert [statuses(answer) for answer in answers] == [["written"], ["written"], ["duplicate"]]
    assert [item["data"] for item in page["items"]] == [1]
    assert (rest["gap"]["reason"], [item["data"] for item in rest["items"]]) == ("hole", [3])
