"""GET /v1/questions: what waits for a person."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.gateway.routes.questions import QuestionList
from tailrace.workers import Context, Outputs, Pipeline, Registry, Step
from tests.e2e.waiting import eventually
from tests.integration.workers.watching import watch, working

pytestmark = pytest.mark.anyio

LIST = "/v1/questions"
SCHEMA = {"type": "boolean"}


async def ask(ctx: Context, _outputs: Outputs) -> Any:
    return await ctx.ask({"text": "publish it?"}, SCHEMA)


REGISTRY = Registry([Pipeline("review", (Step("look", ask),))])


async def items(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await client.get(LIST, params=params)
    assert answer.status_code == 200, answer.text
    QuestionList.model_validate(answer.json())
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def listed(client: httpx.AsyncClient, count: int) -> list[dict[str, Any]]:
    async def are_listed() -> bool:
        """So many questions wait."""
        return len(await items(client)) == count

    await eventually(are_listed)
    return await items(client)


async def test_a_question_is_listed_until_it_is_answered(bus: Bus, client: httpx.AsyncClient) -> None:
    async with working(bus, REGISTRY):
        await bus.submit("review", execution_id="r-1", labels={"user": "ann"}, tenant="acme")
        (question,) = await listed(client, 1)
        since = question.pop("since")
        assert since.endswith("Z")
        assert question == {
            "execution_id": "r-1",
            "pipeline": "review",
            "tenant": "acme",
            "labels": {"user": "ann"},
            "step": "look",
            "ask": "look.1",
            "signal": "answer:look.1",
            "question": {"text": "publish it?"},
            "schema": SCHEMA,
            "links": {"self": "/v1/executions/r-1", "events": "/v1/executions/r-1/events"},
        }
        for answer in ("neither", True):
            sent = {"name": question["signal"], "data": answer}
            assert (await client.post("/v1/executions/r-1/signals", json=sent)).is_success
            if answer != "neither":
                break
            await watch(bus, "r-1", until="review.rejected")
            assert len(await items(client)) == 1
        assert (await watch(bus, "r-1"))[-1].data == {"result": True}
        assert await items(client) == []
        for key in (bus.keys.questions(None), bus.keys.questions("acme")):
            assert await bus.commands.command("EXISTS", key) == 0


async def test_a_question_of_an_execution_that_was_cancelled_or_deleted_is_listed_no_more(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    async with working(bus, REGISTRY):
        for name in ("cancelled", "deleted"):
            await bus.submit("review", execution_id=name)
        await listed(client, 2)
        for name in ("cancelled", "deleted"):
            await bus.handle(name).cancel()
            await watch(bus, name)
        await bus.delete("deleted")
        assert await items(client) == []
        assert await bus.commands.command("EXISTS", bus.keys.questions(None)) == 0


async def test_pages_put_together_are_all_and_begin_with_the_one_that_waits_longest(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    await wait_for_nothing(bus, {f"e-{number}": 1000 + number // 3 for number in range(10)})
    answer = await client.get(LIST, params={"limit": 4})
    seen: list[str] = []
    while True:
        page = answer.json()
        seen += [item["execution_id"] for item in page["items"]]
        if page["links"]["next"] is None:
            break
        answer = await client.get(page["links"]["next"])
    assert seen == [f"e-{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("params", "status", "code", "field"),
    [
        ({"limit": "0"}, 422, "invalid_request", "limit"),
        ({"limit": "201"}, 422, "invalid_request", "limit"),
        ({"cursor": "1-"}, 400, "invalid_input", "cursor"),
        ({"cursor": "1-a b:c"}, 400, "invalid_execution_id", "cursor"),
        ({"cursor": "x" * 1000}, 400, "invalid_input", "cursor"),
    ],
)
async def test_what_cannot_be_a_page_is_refused(
    client: httpx.AsyncClient, params: dict[str, str], status: int, code: str, field: str
) -> None:
    answer = await client.get(LIST, params=params)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (status, code, field)


async def wait_for_nothing(bus: Bus, since_ms: dict[str, int], **submission: Any) -> None:
    """Questions as a worker lists them."""
    for name, at_ms in since_ms.items():
        await bus.submit("review", execution_id=name, **submission)
        packed = b"\x81\xa8question\xa1?"
        await bus.checkpoints.store_question(name, "look.1", packed, fence=0)
        await bus.index.asked(name, "look.1", submission.get("tenant"), at_ms)
