"""Cancel, pause, resume and signal over HTTP: asked, or done, and never said to be done while it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus, Execution
from tests.integration.bus.follower import Follower
from tests.integration.gateway.live import GatewayProcess, live_gateway
from tests.patience import patient

pytestmark = pytest.mark.anyio

Body = Callable[[Execution], Awaitable[object]]


@asynccontextmanager
async def running(bus: Bus, body: Body) -> AsyncGenerator[asyncio.Task[None], None]:
    entered = asyncio.Event()

    async def run() -> None:
        async with bus.execution("run") as execution:
            entered.set()
            execution.result = await body(execution)

    task = asyncio.create_task(run())
    await entered.wait()
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def forever(_: Execution) -> None:
    await asyncio.Event().wait()


async def counting(execution: Execution) -> None:
    for number in range(100_000):
        await execution.append("a", number)
        await asyncio.sleep(0.005)


async def entries(bus: Bus) -> list[Any]:
    async with Follower(bus, "run") as follower:
        await follower.end()
        return follower.entries


async def test_a_cancellation_that_is_waited_for_gives_the_outcome(bus: Bus, client: httpx.AsyncClient) -> None:
    async with running(bus, forever):
        asked = {"reason": "too dear", "by": "ann", "grace_seconds": 3}
        response = await client.post("/v1/executions/run/cancel?wait=10", json=asked)
    log = await entries(bus)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == {
        "execution_id": "run",
        "request": log[1].id,
        "status": "cancelled",
        "outcome": {
            "id": log[2].id,
            "type": "execution.cancelled",
            "execution_id": "run",
            "step": None,
            "ts": log[2].ts,
            "data": {"reason": "too dear", "by": "ann", "request": log[1].id},
            "meta": None,
            "encoding": None,
        },
        "links": {"self": "/v1/executions/run", "events": "/v1/executions/run/events"},
    }


async def test_without_waiting_it_is_accepted_and_nothing_is_claimed(bus: Bus, client: httpx.AsyncClient) -> None:
    async with running(bus, forever):
        response = await client.post("/v1/executions/run/cancel")
        assert (response.status_code, response.json()["outcome"]) == (202, None)
        assert response.json()["status"] == "cancelling"
    assert (await entries(bus))[-1].data["request"] == response.json()["request"]


async def test_what_is_not_answered_in_time_is_accepted_not_done(bus: Bus, client: httpx.AsyncClient) -> None:
    async with running(bus, forever):
        response = await client.post("/v1/executions/run/pause?wait=0.3")
        assert (response.status_code, response.json()["outcome"]) == (202, None)
        assert response.json()["status"] == "running"


async def test_pause_and_resume_say_when_it_is_so(bus: Bus, client: httpx.AsyncClient) -> None:
    async with running(bus, counting):
        paused = await client.post("/v1/executions/run/pause?wait=10", json={})
        assert (paused.status_code, paused.json()["status"]) == (200, "paused")
        assert paused.json()["outcome"]["type"] == "execution.paused"
        assert (await client.get("/v1/executions/run")).json()["status"] == "paused"
        resumed = await client.post("/v1/executions/run/resume?wait=10", json={"by": "ann"})
        assert (resumed.status_code, resumed.json()["status"]) == (200, "running")
        assert resumed.json()["outcome"]["data"] == {"request": resumed.json()["request"], "by": "ann"}


async def test_a_signal_arrives_with_its_data(bus: Bus, client: httpx.AsyncClient) -> None:
    async def waiting(execution: Execution) -> object:
        signal = await execution.signal("approval")
        return [signal.data, signal.by]

    async with running(bus, waiting) as task:
        signal = {"name": "approval", "data": {"approved": True}, "by": "ann"}
        response = await client.post("/v1/executions/run/signals?wait=10", json=signal)
        assert (response.status_code, response.json()["outcome"]["type"]) == (200, "execution.signalled")
        await task
    assert (await entries(bus))[-1].data == {"result": [{"approved": True}, "ann"]}


async def test_what_waits_for_a_worker_is_cancelled_at_once(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.submit("nothing", execution_id="run")
    response = await client.post("/v1/executions/run/cancel")
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert response.json()["outcome"]["type"] == "execution.cancelled"


async def test_who_asked_is_told_the_true_ending_when_that_came_first(bus: Bus, client: httpx.AsyncClient) -> None:
    ending = asyncio.Event()

    async def ends(_: Execution) -> str:
        await ending.wait()
        return "done"

    async with running(bus, ends):
        asking = asyncio.create_task(client.post("/v1/executions/run/pause?wait=10"))
        async with Follower(bus, "run") as follower:
            await follower.until(lambda f: "execution.pause_requested" in f.types)
        ending.set()
        response = await asking
    assert (response.status_code, response.json()["status"]) == (200, "completed")
    assert response.json()["outcome"]["data"] == {"result": "done"}


OPS = [("cancel", {}), ("pause", {}), ("resume", {}), ("signals", {"name": "go"})]


@pytest.mark.parametrize(("op", "body"), OPS)
async def test_refusals_say_what_is_wrong(bus: Bus, client: httpx.AsyncClient, op: str, body: dict[str, Any]) -> None:
    async with bus.execution("over"):
        pass
    publisher = bus.publisher("alone")
    await publisher.append("a")
    await publisher.aclose()
    told = []
    for execution_id in ("nobody", "over", "alone", "-"):
        response = await client.post(f"/v1/executions/{execution_id}/{op}?wait=5", json=body)
        told.append((response.status_code, response.json()["code"]))
    assert told == [
        (404, "execution_unknown"),
        (409, "execution_closed"),
        (409, "transition_refused"),
        (400, "invalid_execution_id"),
    ]


async def test_what_is_being_cancelled_can_be_asked_nothing_else(bus: Bus, client: httpx.AsyncClient) -> None:
    async def slow(execution: Execution) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await execution.abandoned.wait()

    async with running(bus, slow):
        await client.post("/v1/executions/run/cancel", json={"grace_seconds": 1})
        response = await client.post("/v1/executions/run/pause")
        assert response.status_code == 409
        problem = response.json()
        assert (problem["code"], problem["execution_status"]) == ("transition_refused", "cancelling")
        forced = await client.post("/v1/executions/run/cancel?wait=10")
        assert forced.json()["outcome"]["data"]["forced"] is True


@pytest.mark.parametrize(
    ("path", "options", "told"),
    [
        ("cancel?wait=61", {}, (422, "invalid_request", "wait")),
        ("cancel?wait=-1", {}, (422, "invalid_request", "wait")),
        ("cancel?wait=nan", {}, (422, "invalid_request", "wait")),
        ("cancel", {"json": {"why": "so"}}, (422, "invalid_request", "why")),
        ("cancel", {"json": {"reason": "a\nb"}}, (400, "invalid_input", "reason")),
        ("cancel", {"json": {"reason": 5}}, (422, "invalid_request", "reason")),
        ("cancel", {"json": {"grace_seconds": 1e9}}, (422, "invalid_request", "grace_seconds")),
        ("cancel", {"json": []}, (422, "invalid_request", "body")),
        ("pause", {"json": {"reason": "x"}}, (422, "invalid_request", "reason")),
        ("signals", {"json": {}}, (422, "invalid_request", "name")),
        ("signals", {}, (422, "invalid_request", "name")),
        ("signals", {"json": {"name": "go", "data": "x" * 70_000}}, (413, "event_too_large", "data")),
        ("cancel", {"content": b"{"}, (415, "unsupported_media_type", "Content-Type")),
        (
            "cancel",
            {"content": b"{", "headers": {"content-type": "application/json"}},
            (400, "invalid_json", "body"),
        ),
        ("cancel", {"headers": {"origin": "https://evil.example"}}, (403, "origin_not_allowed", "Origin")),
        ("cancel", {"headers": {"origin": "null"}}, (403, "origin_not_allowed", "Origin")),
    ],
)
async def test_requests_that_cannot_be_are_refused_and_leave_no_trace(
    bus: Bus, client: httpx.AsyncClient, path: str, options: dict[str, Any], told: tuple[int, str, str]
) -> None:
    async with running(bus, forever):
        response = await client.post(f"/v1/executions/run/{path}", **options)
        problem = response.json()
        assert (response.status_code, problem["code"], problem["field"]) == told
        assert not await bus.commands.command("EXISTS", bus.keys.control("run"))


async def test_a_page_of_this_machine_may_ask_without_a_body(bus: Bus, client: httpx.AsyncClient) -> None:
    async with running(bus, forever):
        response = await client.post("/v1/executions/run/cancel?wait=5", headers={"origin": "http://localhost:3000"})
        assert response.status_code == 200


async def test_a_gateway_that_is_told_to_stop_sends_who_waits_away_with_the_request(
    bus: Bus, server_url: str, prefix: str
) -> None:
    async with running(bus, forever):
        with ExitStack() as stack:
            # In a thread: its start takes long on a busy machine, and this loop keeps the execution's lease.
            process = await asyncio.to_thread(stack.enter_context, GatewayProcess(redis_url=server_url, prefix=prefix))
            async with httpx.AsyncClient(base_url=process.url(), timeout=patient(30)) as client:
                asking = asyncio.create_task(client.post("/v1/executions/run/pause?wait=30"))
                async with Follower(bus, "run") as follower:
                    await follower.until(lambda f: "execution.pause_requested" in f.types)
                process.signal(15)
                response = await asking
            assert (response.status_code, response.json()["outcome"]) == (202, None)
            request = response.json()["request"]
        async with live_gateway(bus) as other, httpx.AsyncClient(base_url=other) as client:
            # Whoever comes back need not ask again.
            asked = (await client.get("/v1/executions/run/requests")).json()["items"]
        assert [(each["id"], each["answered"]) for each in asked] == [(request, False)]
