"""What HTTP itself asks for, and clients send: methods, several headers of one name, encodings."""

from __future__ import annotations

import asyncio
import gzip
from urllib.parse import urlsplit

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.gateway.settings import read_settings
from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.gateway.live import live_gateway
from tests.patience import patient

pytestmark = pytest.mark.anyio

JOB = {"pipeline": "document"}
PREFLIGHT = b"\r\n".join(
    [
        b"OPTIONS / HTTP/1.1",
        b"Host: localhost",
        b"Origin: https://e.example",
        b"Access-Control-Request-Method: GET",
        b"",
        b"",
    ]
)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/executions", {"GET", "POST"}),
        ("/v1/executions/x/events", {"GET", "POST"}),
        ("/v1/executions/x", {"GET", "DELETE"}),
        ("/v1/executions/x/cancel", {"POST"}),
    ],
)
async def test_attack_68_a_405_lists_the_methods_of_all_routes(
    client: httpx.AsyncClient, path: str, allowed: set[str]
) -> None:
    answer = await client.put(path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert {name.strip() for name in answer.headers["allow"].split(",")} - {"HEAD"} == allowed


async def test_attack_68_several_accept_lines_count_as_one(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.submit("document", execution_id="x")
    headers = [("Accept", "text/event-stream;q=0.1"), ("Accept", "application/json")]
    answer = await client.get("/v1/executions/x/events", headers=headers)
    assert answer.headers["content-type"] == "application/json"


async def test_attack_68_a_compressed_body_is_refused_in_words(client: httpx.AsyncClient) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    for path in ("/v1/executions", "/v1/executions/x/events"):
        answer = await client.post(path, headers=headers, content=gzip.compress(b"{}"))
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["field"]) == (
            415,
            "unsupported_media_type",
            "Content-Encoding",
        )
        assert answer.headers["accept-encoding"] == "identity"


async def test_attack_68_two_idempotency_keys_are_refused(client: httpx.AsyncClient) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = await client.post("/v1/executions", headers=headers, json=JOB)
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")


async def test_attack_68_a_refusal_names_the_status_that_the_state_has(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/executions/x/events", json={"type": "log"})).status_code == 200
    answer = await client.post("/v1/executions/x/pause", json={})
    status = (await client.get("/v1/executions/x")).json()["status"]
    assert (answer.status_code, answer.json()["execution_status"], status) == (409, "unknown", "unknown")


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"NONSENSE\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "invalid_host"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431, "head_too_large"),
        (PREFLIGHT, 400, "preflight_refused"),
    ],
    ids=["nonsense", "no host", "two hosts", "large", "large at once", "preflight"],
)
async def test_attack_68_what_is_refused_before_any_route_is_a_problem_document_too(
    gateway_url: str, sent: bytes, status: int, code: str
) -> None:
    reader, writer = await asyncio.open_connection(urlsplit(gateway_url).hostname, urlsplit(gateway_url).port)
    writer.write(sent)
    async with asyncio.timeout(patient(10)):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-type: application/problem+json" in head.lower()
        body = await reader.readuntil(b"}")
    assert f'"code":"{code}"'.encode() in body
    writer.close()


async def test_attack_68_pages_of_an_origin_with_its_own_port_are_let_in(bus: Bus) -> None:
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET, allowed_origins="https://app.example:443")
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/healthz", headers={"Origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        refused = await client.get("/healthz", headers={"Origin": "https://app.example:444"})
        assert "access-control-allow-origin" not in refused.headers


async def test_attack_68_a_host_that_is_refused_is_told_to_pages_that_may_ask(client: httpx.AsyncClient) -> None:
    headers = {"Host": "elsewhere.example", "Origin": "http://localhost:3000"}
    answer = await client.get("/healthz", headers=headers)
    assert answer.status_code == 421
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "events?after=nonsense", None),
        ("GET", "events?limit=0&after=0", None),
        ("POST", "events", {"type": "NO"}),
        ("POST", "cancel", {"unknown": 1}),
        ("POST", "signals/x", {"unknown": 1}),
    ],
)
async def test_attack_68_a_malformed_request_tells_nothing_of_other_tenants_executions(
    bus: Bus, method: str, path: str, body: dict[str, object] | None
) -> None:
    await bus.submit("document", execution_id="there", tenant="acme")
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET)
    headers = {**Issuer().headers(tenant=None), "Accept": "application/json"}
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url) as client:
        answers = [
            (answer.status_code, answer.text.replace(name, "NAME"))
            for name in ("there", "gone1")
            for answer in [await client.request(method, f"/v1/executions/{name}/{path}", headers=headers, json=body)]
        ]
    assert answers[0] == answers[1]
