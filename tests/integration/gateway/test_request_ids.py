"""An id by which one finds a request in the logs of every host it went through."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tailrace.bus import Bus
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient

pytestmark = pytest.mark.anyio


async def test_every_answer_carries_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    answers = [await client.get(path) for path in ("/healthz", "/v1/executions/nobody", "/nothing")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"[0-9a-f]{16}", each) for each in ids)


async def test_the_id_of_a_proxy_is_kept_and_nonsense_is_not(client: httpx.AsyncClient) -> None:
    kept = await client.get("/healthz", headers={"X-Request-Id": "proxy-7.a_b"})
    assert kept.headers["x-request-id"] == "proxy-7.a_b"
    for nonsense in ("", "x" * 65, 'a"b', "a b"):
        made = await client.get("/healthz", headers={"X-Request-Id": nonsense})
        assert made.headers["x-request-id"] != nonsense


async def test_a_stream_carries_one_too(bus: Bus, client: httpx.AsyncClient) -> None:
    async with bus.execution("run") as execution:
        await execution.append("custom.a", {})
    async with client.stream("GET", "/v1/executions/run/events", headers={"X-Request-Id": "mine"}) as answer:
        assert answer.headers["x-request-id"] == "mine"


async def test_the_log_has_a_line_of_json_for_each_request_with_its_ids_and_without_its_query(
    server_url: str, prefix: str
) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix, log_format="json", access_log="true") as gateway:
        async with httpx.AsyncClient(base_url=gateway.url()) as client:
            await client.get(
                "/v1/executions/run-7?ticket=abcdefghijklmnop", headers={"X-Request-Id": "mine"}, timeout=patient(10)
            )

        async def logged() -> bool:
            """the request is in the log"""
            return any("run-7" in line for line in gateway.errors)

        await eventually(logged)
    line = json.loads(next(line for line in gateway.errors if "run-7" in line))
    assert (line["request_id"], line["execution_id"], line["level"]) == ("mine", "run-7", "info")
    assert re.fullmatch(r"GET /v1/executions/run-7 404 [0-9.]+ ms", line["message"])
    assert not any("abcdefghijklmnop" in each for each in gateway.errors)
