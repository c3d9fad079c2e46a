"""/v1/dead-letters: jobs that came to nothing are seen, submitted once more, and dropped."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.bus.jobs.queue import UnusableJob
from tailrace.gateway.routes.dead_letters import LetterList

pytestmark = pytest.mark.anyio

LIST = "/v1/dead-letters"


async def bury(bus: Bus, execution_id: str, queue: str = "default", **submission: Any) -> str:
    """Give a job up, and return its letter's id."""
    await bus.jobs.queues.open(queue)
    await bus.submit("document", {"path": "a.md"}, execution_id=execution_id, queue=queue, **submission)
    await bus.dead_letters.add(execution_id, "worker_lost", "its worker died three times")
    return (await bus.dead_letters.list(queue, count=1))[0].entry_id


async def items(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await client.get(LIST, params=params)
    assert answer.status_code == 200, answer.text
    LetterList.model_validate(answer.json())
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_they_are_listed_of_all_queues_or_of_one(bus: Bus, client: httpx.AsyncClient) -> None:
    await bury(bus, "a")
    entry_id = await bury(bus, "b", "imports")
    await bus.dead_letters.add_unusable(UnusableJob("imports", "1-1", "it has no field 'id'"))

    assert [each["execution_id"] for each in await items(client)] == [None, "b", "a"]
    unusable, letter = await items(client, queue="imports")
    assert (unusable["reason"], unusable["message"]) == ("unusable_job", "it has no field 'id'")
    assert letter.pop("ts").endswith("Z")
    assert letter == {
        "queue": "imports",
        "entry_id": entry_id,
        "execution_id": "b",
        "pipeline": "document",
        "reason": "worker_lost",
        "message": "its worker died three times",
        "attempts": 0,
    }


async def test_pages_put_together_are_all_though_queues_have_letters_of_the_same_id(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    for queue in ("q1", "q2", "q3"):
        await bus.jobs.queues.open(queue)
        for number in range(3):
            fields = ("id", f"{queue}-{number}", "reason", "worker_lost", "message", "", "attempts", "1")
            await bus.commands.command("XADD", bus.keys.dead_letters(queue), f"{5 + number}-1", *fields)
    seen: list[str] = []
    answer = await client.get(LIST, params={"limit": 2})
    while True:
        page = answer.json()
        assert len(page["items"]) <= 2
        seen += [item["execution_id"] for item in page["items"]]
        if page["links"]["next"] is None:
            break
        answer = await client.get(page["links"]["next"])
    assert seen == [f"{queue}-{number}" for number in (2, 1, 0) for queue in ("q1", "q2", "q3")]


async def test_one_is_submitted_once_more_and_only_once(bus: Bus, client: httpx.AsyncClient) -> None:
    entry_id = await bury(bus, "a")
    again = await client.post(f"{LIST}/default/{entry_id}/requeue")
    assert again.status_code == 202
    execution_id = again.json()["execution_id"]
    assert execution_id != "a"
    assert again.json()["links"]["self"] == f"/v1/executions/{execution_id}"
    submission = await bus.jobs.submission_of(execution_id)
    assert submission is not None
    assert submission.input == {"path": "a.md"}
    assert await items(client) == []
    twice = await client.post(f"{LIST}/default/{entry_id}/requeue")
    assert (twice.status_code, twice.json()["code"]) == (404, "dead_letter_unknown")


async def test_one_is_dropped(bus: Bus, client: httpx.AsyncClient) -> None:
    entry_id = await bury(bus, "a")
    assert (await client.delete(f"{LIST}/default/{entry_id}")).status_code == 204
    assert await items(client) == []
    twice = await client.delete(f"{LIST}/default/{entry_id}")
    assert (twice.status_code, twice.json()["code"], twice.json()["field"]) == (404, "dead_letter_unknown", "entry_id")


async def test_a_job_that_named_no_execution_can_only_be_dropped(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.jobs.queues.open("default")
    await bus.dead_letters.add_unusable(UnusableJob("default", "1-1", "it has no field 'id'"))
    (letter,) = await items(client)
    refused = await client.post(f"{LIST}/default/{letter['entry_id']}/requeue")
    assert (refused.status_code, refused.json()["field"]) == (400, "entry_id")
    assert (await client.delete(f"{LIST}/default/{letter['entry_id']}")).status_code == 204


async def test_a_strangers_page_requeues_nothing(bus: Bus, client: httpx.AsyncClient) -> None:
    entry_id = await bury(bus, "a")
    refused = await client.post(f"{LIST}/default/{entry_id}/requeue", headers={"Origin": "https://evil.example"})
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")
    assert len(await items(client)) == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "field"),
    [
        ("GET", "?limit=0", 422, "invalid_request", "limit"),
        ("GET", "?queue=a%20b", 400, "invalid_input", "queue"),
        ("GET", "?cursor=nothing", 400, "invalid_input", "cursor"),
        ("GET", "?cursor=1-1%40a%20b", 400, "invalid_input", "cursor"),
        ("DELETE", "/default/nothing", 400, "invalid_cursor", "entry_id"),
        ("POST", "/a%20b/1-1/requeue", 400, "invalid_input", "queue"),
        ("DELETE", "/default/1-1", 404, "dead_letter_unknown", "entry_id"),
    ],
)
async def test_what_names_no_letter_is_refused(
    client: httpx.AsyncClient, method: str, path: str, status: int, *, code: str, field: str
) -> None:
    answer = await client.request(method, LIST + path)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (status, code, field)
