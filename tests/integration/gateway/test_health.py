from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.gateway.app import create_app
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import live_app, live_gateway
from tests.patience import patient, stretched
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

STREAMS: Final = {"text/event-stream", "application/x-ndjson"}


async def test_a_gateway_with_redis_is_alive_and_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "tail": "tracking", "reasons": [], "degraded": []}


async def test_readiness_tells_the_fallback_of_the_tail(server_url: str, prefix: str) -> None:
    settings = BusSettings(prefix=prefix, tail="blocking")
    async with (
        await open_bus(server_url, settings=settings) as bus,
        live_gateway(bus) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        assert (await client.get("/readyz")).json()["tail"] == "blocking"


async def test_a_gateway_whose_redis_hangs_stays_alive_and_is_not_ready_within_two_seconds(
    fresh_server: RunningServer,
) -> None:
    async with (
        await open_bus(fresh_server.url) as bus,
        live_gateway(bus) as url,
        httpx.AsyncClient(base_url=url, timeout=patient(10)) as client,
    ):
        fresh_server.pause()
        begun = time.monotonic()
        ready = await client.get("/readyz")
        alive = await client.get("/healthz")
        took = time.monotonic() - begun
        fresh_server.resume()
        assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
        assert ready.json()["reasons"] == ["redis: no answer within 1 s"]
        assert alive.status_code == 200
        assert took < stretched(2)


async def test_attack_61_readiness_says_when_redis_refuses_writes(fresh_server: RunningServer) -> None:
    """Viewers are served all the same, so the gateway stays ready."""
    async with (
        await open_bus(fresh_server.url) as bus,
        live_gateway(bus) as url,
        httpx.AsyncClient(base_url=url, timeout=patient(10)) as client,
    ):
        await bus.commands.command("CONFIG", "SET", "maxmemory", "1")
        answer = await client.get("/readyz")
        await bus.commands.command("CONFIG", "SET", "maxmemory", "0")
        assert answer.status_code == 200
        (degraded,) = answer.json()["degraded"]
        assert degraded.startswith("redis refuses writes: OOM")
        assert (await client.get("/readyz")).json()["degraded"] == []


async def test_a_gateway_is_ready_again_when_redis_is_back(fresh_server: RunningServer) -> None:
    async with (
        await open_bus(fresh_server.url) as bus,
        live_gateway(bus) as url,
        httpx.AsyncClient(base_url=url, timeout=patient(20)) as client,
    ):
        await asyncio.to_thread(fresh_server.kill)
        away = await client.get("/readyz")
        refused = await client.get("/v1/executions/e")
        await asyncio.to_thread(fresh_server.start)
        async with asyncio.timeout(patient(20)):
            while (back := await client.get("/readyz")).status_code != 200:
                assert back.json()["reasons"]
        assert away.status_code == 503
        assert (refused.status_code, refused.json()["code"]) == (503, "bus_unavailable")
        assert refused.headers["retry-after"] == "1"
        assert fresh_server.url.partition("://")[2] not in refused.text


async def test_a_draining_gateway_is_not_ready(bus: Bus) -> None:
    app = create_app(bus, read_settings(drain_seconds=0))
    async with live_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        app.state.gateway.draining = True
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["draining"])


async def test_the_index_points_to_what_there_is(client: httpx.AsyncClient) -> None:
    index = (await client.get("/")).json()
    assert index["name"] == "tailrace"
    for name in ("live", "ready", "openapi"):
        assert (await client.get(index["links"][name])).status_code == 200


async def test_openapi_documents_answers_and_problems_of_every_route(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    paths = document["paths"]
    for path, ways in paths.items():
        for method, operation in ways.items():
            place, answers = f"{method.upper()} {path}", set(operation["responses"])
            assert operation["summary"], place
            assert answers & {"200", "201", "202", "204"}, place
            if path.startswith("/v1/"):
                assert answers >= {"401", "403", "429", "503"}, place
                assert operation["security"], place
            if "{execution_id}" in path:
                assert answers >= {"400", "404"}, place
            if "requestBody" in operation:
                assert answers >= {"408", "413", "415"}, place
    events = paths["/v1/executions/{execution_id}/events"]["get"]["responses"]
    assert set(events["200"]["content"]) == {"application/json", "application/x-ndjson", "text/event-stream"}
    schemas = document["components"]["schemas"]
    assert {"ProblemDetails", "EventPage", "ExecutionState", "Submitted", "Published", "ExecutionList"} <= set(schemas)
    references = str(document).count("#/components/schemas/")
    assert references == sum(str(document).count(f"#/components/schemas/{name}'") for name in schemas)


async def test_openapi_has_an_example_of_every_body_and_of_every_problem(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    lacking = []
    for path, ways in document["paths"].items():
        for method, operation in ways.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for kind, content in body.get("content", {}).items():
                    # Streams are shown by pages of the documentation.
                    if kind.endswith("json") and kind not in STREAMS and not has_example(content, document):
                        lacking.append(f"{method.upper()} {path}: {name} {kind}")
    assert lacking == []


def has_example(content: dict[str, Any], document: dict[str, Any]) -> bool:
    schema = content.get("schema", {})
    if reference := schema.get("$ref"):
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    properties = schema.get("properties", {}).values()
    spelled = any("examples" in each or "const" in each or "$ref" in each or "items" in each for each in properties)
    return "example" in content or "examples" in schema or spelled
