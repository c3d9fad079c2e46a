"""A trace goes on from whoever submits, or publishes, to whoever watches."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from tailrace.bus import Bus, Entry
from tailrace.workers import Context, Pipeline, Registry, Step, Worker, WorkerSettings
from tests.patience import patient

pytestmark = pytest.mark.anyio

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def entries(bus: Bus, run: str) -> list[Entry]:
    async with contextlib.aclosing(bus.follow(run)) as items:
        return [item async for item in items if isinstance(item, Entry)]


async def test_every_event_of_a_submitted_run_carries_the_trace_of_its_submission(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    async def say(ctx: Context) -> None:
        await ctx.token("hello")
        await ctx.progress(0.5)

    submitted = await client.post("/v1/executions", json={"pipeline": "said"}, headers={"traceparent": TRACE})
    run = submitted.json()["execution_id"]
    worker = Worker(bus, Registry([Pipeline("said", (Step("say", say),))]), WorkerSettings(drain_seconds=0))
    working = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(patient(20)):
            log = await entries(bus, run)
    finally:
        worker.stop()
        await working
    assert [entry.type for entry in log][-1] == "execution.completed"
    assert len(log) > 5
    assert {entry.type: entry.meta for entry in log} == {entry.type: {"traceparent": TRACE} for entry in log}


async def test_a_broken_trace_is_left_out_and_refuses_nothing(bus: Bus, client: httpx.AsyncClient) -> None:
    submitted = await client.post("/v1/executions", json={"pipeline": "said"}, headers={"traceparent": "nonsense"})
    assert submitted.status_code == 202
    page = await client.get(
        f"/v1/executions/{submitted.json()['execution_id']}/events", headers={"Accept": "application/json"}
    )
    assert [item.get("meta") for item in page.json()["items"]] == [None]


async def test_what_is_published_carries_the_trace_of_its_request_or_its_own(client: httpx.AsyncClient) -> None:
    lines = '{"type":"custom.a"}\n{"type":"custom.b","meta":{"traceparent":"mine"}}\n'
    answer = await client.post(
        "/v1/executions/run/events",
        content=lines,
        headers={"traceparent": TRACE, "Content-Type": "application/x-ndjson"},
    )
    assert answer.status_code == 200, answer.text
    page = await client.get("/v1/executions/run/events", headers={"Accept": "application/json"})
    assert [item["meta"] for item in page.json()["items"]] == [{"traceparent": TRACE}, {"traceparent": "mine"}]
