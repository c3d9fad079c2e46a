"""What clients get wrong is told to them, with the field's name, and never a 500."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.gateway.app import create_app
from tailrace.gateway.http.schemas import ProblemDetails
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import live_app

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}


def problem(answer: httpx.Response, status: int, code: str, field: str | None) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    ProblemDetails.model_validate(body)
    assert (answer.status_code, body["status"], body["code"], body.get("field")) == (status, status, code, field), body
    return body


@pytest.mark.parametrize("path", ["/v1/executions/nobody", "/v1/executions/nobody/events"])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_an_unknown_execution_is_not_found(client: httpx.AsyncClient, path: str, accept: str) -> None:
    answer = await client.get(path, headers={"Accept": accept})
    assert problem(answer, 404, "execution_unknown", None)["execution_id"] == "nobody"


@pytest.mark.parametrize("execution_id", ["-x", "a b", "a\nb", "é", "x" * 129, "{a}", "a:log", "..%2f..", "\x00", "*"])
@pytest.mark.parametrize("tail", ["", "/events", "/events?limit=1"])
async def test_a_malformed_id_is_refused(client: httpx.AsyncClient, execution_id: str, tail: str) -> None:
    answer = await client.get(f"/v1/executions/{quote(execution_id, safe='')}{tail}")
    problem(answer, 400, "invalid_execution_id", "execution_id")


@pytest.mark.parametrize(
    "cursor", ["x", "1", "1-", "-1-1", "1-1-1", "01-1", "1-99999999999999999999", "$", "+", "1-1\n"]
)
async def test_a_malformed_cursor_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    await client.post("/v1/executions", json={"pipeline": "document", "execution_id": "e"})
    answer = await client.get("/v1/executions/e/events", params={"after": cursor})
    problem(answer, 400, "invalid_cursor", "after")


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "1001", "9" * 5000])
async def test_a_limit_out_of_bounds_is_refused(client: httpx.AsyncClient, limit: str) -> None:
    await client.post("/v1/executions", json={"pipeline": "document", "execution_id": "e"})
    answer = await client.get("/v1/executions/e/events", params={"limit": limit})
    assert problem(answer, 422, "invalid_request", "limit")["errors"][0]["field"] == "limit"


async def test_an_accept_that_allows_no_representation_is_not_acceptable(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/executions/e/events", headers={"Accept": "image/png"})
    body = problem(answer, 406, "not_acceptable", "Accept")
    assert body["available"] == ["text/event-stream", "application/json", "application/x-ndjson"]


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({}, ["pipeline"]),
        ({"pipeline": "Document"}, ["pipeline"]),
        ({"pipeline": "1st"}, ["pipeline"]),
        ({"pipeline": ""}, ["pipeline"]),
        ({"pipeline": "x" * 65}, ["pipeline"]),
        ({"pipeline": "a\n"}, ["pipeline"]),
        ({"pipeline": None}, ["pipeline"]),
        ({"pipeline": 5}, ["pipeline"]),
        ({"pipeline": "a", "queue": "}:jobs"}, ["queue"]),
        ({"pipeline": "a", "input": [1]}, ["input"]),
        ({"pipeline": "a", "input": None}, ["input"]),
        ({"pipeline": "a", "execution_id": 7}, ["execution_id"]),
        ({"pipelin": "a"}, ["pipeline", "pipelin"]),
        ([], ["body"]),
        ("document", ["body"]),
        (None, ["body"]),
    ],
    ids=str,
)
async def test_a_submission_that_is_not_as_expected_names_every_field(
    client: httpx.AsyncClient, given: object, fields: list[str]
) -> None:
    answer = await client.post("/v1/executions", content=json.dumps(given), headers=JSON)
    body = problem(answer, 422, "invalid_request", fields[0])
    assert [error["field"] for error in body["errors"]] == fields


@pytest.mark.parametrize("execution_id", ["", "a b", "a}b{", "x" * 129, "-"])
async def test_a_malformed_id_of_a_submission_is_refused(client: httpx.AsyncClient, execution_id: str) -> None:
    answer = await client.post("/v1/executions", json={"pipeline": "a", "execution_id": execution_id})
    problem(answer, 400, "invalid_execution_id", "execution_id")


async def test_malformed_json_is_refused_with_its_position(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/executions", content=b'{"pipeline":\n "a",}', headers=JSON)
    body = problem(answer, 400, "invalid_json", "body")
    assert body["position"]["line"] == 2


async def test_a_body_that_is_not_declared_as_json_is_refused(client: httpx.AsyncClient) -> None:
    # A form of any page of any stranger can send this to a gateway on the reader's own machine.
    answer = await client.post(
        "/v1/executions", content=b'{"pipeline":"command"}', headers={"Content-Type": "text/plain"}
    )
    problem(answer, 415, "unsupported_media_type", "Content-Type")


async def test_a_request_for_another_host_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/executions/e", headers={"Host": "rebound.example"})
    problem(answer, 421, "host_not_allowed", "Host")


async def test_a_body_over_the_limit_is_refused_while_it_is_read(client: httpx.AsyncClient) -> None:
    body = b'{"pipeline":"a","input":{"x":"' + b"x" * (2 * 1024 * 1024) + b'"}}'
    answer = await client.post("/v1/executions", content=body, headers=JSON)
    told = problem(answer, 413, "body_too_large", "body")
    assert (told["size_bytes"], told["limit_bytes"]) == (len(body), 1024 * 1024)
    # The connection ends with it, and the next request is none the worse.
    assert (await client.get("/healthz")).status_code == 200


async def test_a_chunked_body_over_the_limit_is_refused_too(client: httpx.AsyncClient) -> None:
    async def chunks() -> Any:
        for _ in range(64):
            yield b" " * 65536

    answer = await client.post("/v1/executions", content=chunks(), headers=JSON)
    problem(answer, 413, "body_too_large", "body")


async def test_an_input_over_the_limit_is_refused_with_both_sizes(bus: Bus, client: httpx.AsyncClient) -> None:
    given = {"pipeline": "a", "execution_id": "big", "input": {"x": "x" * 300_000}}
    body = problem(await client.post("/v1/executions", json=given), 413, "input_too_large", "input")
    assert body["limit_bytes"] == 256 * 1024
    assert body["size_bytes"] > 300_000
    assert not await bus.log.exists("big")


async def test_a_key_that_is_no_log_is_a_conflict_and_no_crash(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.commands.command("SET", bus.keys.log("odd"), "not a stream")
    for path in ("/v1/executions/odd", "/v1/executions/odd/events?limit=1"):
        problem(await client.get(path), 409, "not_a_log", None)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/executions", 404, "not_found"),
        ("GET", "/v1/executions/e/", 404, "not_found"),
        ("PATCH", "/v1/executions/e", 405, "method_not_allowed"),
        ("PUT", "/v1/executions", 405, "method_not_allowed"),
    ],
)
async def test_the_router_answers_with_problems_too(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)
    problem(answer, status, code, None)
    assert (answer.headers.get("allow") is not None) == (status == 405)


async def test_a_crash_is_one_log_entry_and_an_error_id(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(bus, read_settings(drain_seconds=0))

    @app.get("/crash")
    async def crash() -> None:
        raise KeyError("a secret")

    async with live_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/crash")
    body = problem(answer, 500, "internal_error", None)
    assert "secret" not in answer.text
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert body["error_id"] in errors[0].getMessage()
