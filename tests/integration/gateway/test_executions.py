from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tailrace.bus import Bus

pytestmark = pytest.mark.anyio

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_a_submission_is_accepted_queued_and_found_at_its_location(bus: Bus, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/executions", json={"pipeline": "document", "input": {"path": "a.md"}})
    assert answer.status_code == 202
    body = answer.json()
    assert body["status"] == "queued"
    assert answer.headers["location"] == body["links"]["self"] == f"/v1/executions/{body['execution_id']}"
    submission = await bus.jobs.submission_of(body["execution_id"])
    assert submission is not None
    assert (submission.pipeline, submission.input, submission.queue) == ("document", {"path": "a.md"}, "default")
    state = (await client.get(answer.headers["location"])).json()
    assert (state["status"], state["pipeline"], state["entries"]) == ("queued", "document", 1)


async def test_the_same_submission_again_is_the_same_execution(bus: Bus, client: httpx.AsyncClient) -> None:
    given = {"pipeline": "document", "input": {"b": 1, "a": 2}, "execution_id": "mine", "queue": "gpu"}
    answers = [await client.post("/v1/executions", json=given) for _ in range(3)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, answers[0].text)}
    assert (await client.get("/v1/executions/mine")).json()["entries"] == 1
    assert await bus.commands.command("XLEN", bus.keys.jobs("gpu")) >= 1


async def test_a_submission_again_of_what_has_begun_tells_its_status_and_queues_nothing(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    given = {"pipeline": "document", "execution_id": "begun", "queue": "begun"}
    await client.post("/v1/executions", json=given)
    async with bus.execution("begun"):
        running = await client.post("/v1/executions", json=given)
    ended = await client.post("/v1/executions", json=given)
    assert [(answer.status_code, answer.json()["status"]) for answer in (running, ended)] == [
        (202, "running"),
        (202, "completed"),
    ]
    assert await bus.commands.command("XLEN", bus.keys.jobs("begun")) == 1


async def test_many_that_submit_the_same_at_once_get_one_execution(client: httpx.AsyncClient) -> None:
    given = {"pipeline": "document", "execution_id": "rush", "queue": "rush"}
    answers = await asyncio.gather(*(client.post("/v1/executions", json=given) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["execution_id"] for answer in answers} == {"rush"}
    assert (await client.get("/v1/executions/rush")).json()["entries"] == 1


@pytest.mark.parametrize(
    "change",
    [{"pipeline": "command"}, {"input": {"path": "b.md"}}, {"queue": "other"}],
    ids=lambda each: next(iter(each)),
)
async def test_another_submission_under_the_same_id_is_a_conflict(
    client: httpx.AsyncClient, change: dict[str, object]
) -> None:
    given = {"pipeline": "document", "input": {"path": "a.md"}, "execution_id": "mine"}
    await client.post("/v1/executions", json=given)
    answer = await client.post("/v1/executions", json={**given, **change})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["code"], answer.json()["execution_id"]) == ("execution_exists", "mine")


async def test_the_same_idempotency_key_is_the_same_execution_and_another_submission_under_it_a_conflict(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    given = {"pipeline": "document", "input": {"path": "a.md"}, "queue": "idem"}
    answers = [
        await client.post("/v1/executions", json=given, headers={"Idempotency-Key": "order 7"}) for _ in range(3)
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, answers[0].text)}
    assert await bus.jobs.queues.length("idem") == 1
    other = await client.post("/v1/executions", json={**given, "input": {}}, headers={"Idempotency-Key": "order 7"})
    assert (other.status_code, other.json()["code"]) == (409, "execution_exists")


@pytest.mark.parametrize("key", ["", "x" * 257])
async def test_an_idempotency_key_that_cannot_be_used_is_refused_by_name(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post("/v1/executions", json={"pipeline": "document"}, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert answer.json()["field"] == "Idempotency-Key"


async def test_an_idempotency_key_beside_an_execution_id_is_refused(client: httpx.AsyncClient) -> None:
    given = {"pipeline": "document", "execution_id": "mine"}
    answer = await client.post("/v1/executions", json=given, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")


async def test_a_second_of_a_concurrency_key_is_a_conflict_that_names_the_first(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    given = {"pipeline": "document", "concurrency_key": "user:7"}
    first = (await client.post("/v1/executions", json=given)).json()["execution_id"]
    second = await client.post("/v1/executions", json=given)
    assert (second.status_code, second.json()["code"]) == (409, "concurrency_conflict")
    assert second.json()["execution_id"] == first
    async with bus.execution(first):
        pass
    assert (await client.post("/v1/executions", json=given)).status_code == 202


@pytest.mark.parametrize(
    ("field", "value"), [("delay_seconds", -1), ("delay_seconds", 1e9), ("max_attempts", 0), ("concurrency_key", "")]
)
async def test_a_wish_of_a_submission_that_cannot_be_met_is_refused_by_name(
    client: httpx.AsyncClient, field: str, value: object
) -> None:
    answer = await client.post("/v1/executions", json={"pipeline": "document", field: value})
    assert answer.status_code == 422
    assert answer.json()["field"] == field


async def test_the_state_follows_an_execution_to_its_end(bus: Bus, client: httpx.AsyncClient) -> None:
    async with bus.execution("e", pipeline="by-hand") as execution:
        await execution.emit("step.progress", {"progress": 0.5}, step="one")
        await execution.publisher.flush()
        running = (await client.get("/v1/executions/e")).json()
        execution.result = {"pages": 3}
    ended = (await client.get("/v1/executions/e")).json()
    assert (running["status"], running["terminal"], running["ended"]) == ("running", None, None)
    assert (running["attempt"], running["entries"]) == (1, 2)
    assert ended["status"] == "completed"
    assert ended["terminal"]["id"] == ended["last"]
    assert ended["terminal"]["type"] == "execution.completed"
    assert ended["terminal"]["data"]["result"] == {"pages": 3}
    assert ended["first"].endswith("-1")
    for name in ("created", "started", "ended"):
        assert RFC3339.fullmatch(ended[name]), name


async def test_an_ending_is_told_though_the_log_has_expired(bus: Bus, client: httpx.AsyncClient) -> None:
    async with bus.execution("e"):
        pass
    await bus.commands.command("DEL", bus.keys.log("e"))
    state = (await client.get("/v1/executions/e")).json()
    assert (state["status"], state["first"], state["last"]) == ("completed", None, None)
    assert (state["terminal"]["type"], state["terminal"]["data"]) == ("execution.completed", None)


async def test_a_log_that_only_strangers_wrote_has_a_state(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.commands.command("XADD", bus.keys.log("foreign"), "*", "t", "my.event", "d", '{"x":1}')
    answer = await client.get("/v1/executions/foreign")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["pipeline"]) == ("unknown", None)
    assert answer.json()["first"] == answer.json()["last"]


async def test_states_are_not_cached_by_anyone(client: httpx.AsyncClient) -> None:
    await client.post("/v1/executions", json={"pipeline": "document", "execution_id": "e"})
    assert (await client.get("/v1/executions/e")).headers["cache-control"] == "no-store"


async def test_attack_31_one_that_has_ended_is_deleted_over_http_and_one_that_has_not_is_kept(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    async with bus.execution("done") as execution:
        await execution.emit("custom.x", 1)
    await bus.submit("document", execution_id="queued")
    kept = await client.delete("/v1/executions/queued")
    assert (kept.status_code, kept.json()["code"]) == (409, "execution_not_ended")
    assert (await client.delete("/v1/executions/done")).status_code == 204
    for path in ("/v1/executions/done", "/v1/executions/done/events?after=0"):
        assert (await client.get(path)).json()["code"] == "execution_unknown"
    assert (await client.delete("/v1/executions/done")).status_code == 404
    assert (await client.get("/v1/executions/queued")).json()["status"] == "queued"
