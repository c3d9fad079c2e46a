"""The endpoints that five applications begin with, each in at most 40 lines and with public names only.

Every application runs on two instances, each with a bus of its own; a worker elsewhere does the work.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

import httpx
import pytest
import websockets
from fastapi import FastAPI, Header, HTTPException, Request, Response, WebSocket
from pydantic import BaseModel

from tailrace import (
    Bus,
    BusError,
    BusSettings,
    ConcurrencyConflictError,
    Context,
    ExecutionFailedError,
    ExecutionTimedOutError,
    Frame,
    Gateway,
    GatewaySettings,
    Pipeline,
    Registry,
    ShownEntry,
    SocketWire,
    SseWire,
    Step,
    frame,
    open_bus,
)
from tests.integration.embedding.served import serving
from tests.integration.workers.watching import until_true, working
from tests.patience import patient

pytestmark = pytest.mark.anyio

LONG_SECONDS = 600.0

# assistant


class Turn(BaseModel):
    user_id: str
    user_query: str
    timeout_seconds: float = 30
    show_agent_traces: bool = False


class TurnWire(SseWire):
    def __init__(self, *, traces: bool) -> None:
        self.traces = traces

    def show(self, entry: ShownEntry) -> Frame | None:
        match entry.type:
            case "trace" if self.traces:
                return frame("trace", entry.data)
            case "execution.completed":
                return frame("command_output", entry.data["result"])
            case "execution.timed_out":
                return frame("error", {"code": 504, "detail": entry.data["message"]})
            case "execution.failed" | "execution.cancelled":
                return frame("error", {"code": 500, "detail": entry.data.get("message")})
        return None


def assistant(gateway: Gateway) -> FastAPI:
    app = FastAPI()

    async def begin(turn: Turn) -> Any:
        if turn.user_id == "nobody":
            raise HTTPException(404, "unknown session")
        limits = {"timeout_seconds": turn.timeout_seconds, "concurrency_key": turn.user_id}
        given = {"query": turn.user_query.lstrip("/")}
        try:
            return await gateway.bus.submit("agent", given, labels={"user": turn.user_id}, **limits)  # type: ignore[arg-type]
        except ConcurrencyConflictError:
            raise HTTPException(409, "your turn is in flight") from None

    @app.post("/invoke_agent_stream")
    async def stream(turn: Turn, request: Request) -> Response:
        execution = await gateway.resumed(request) or await begin(turn)
        wire = TurnWire(traces=turn.show_agent_traces)
        return gateway.stream(request, execution, wire=wire, allow=lambda it: it.labels.get("user") == turn.user_id)

    @app.post("/invoke_agent")
    async def whole(turn: Turn) -> Any:
        try:
            return await (await begin(turn)).result()
        except ExecutionTimedOutError as error:
            raise HTTPException(504, str(error)) from None
        except ExecutionFailedError as error:
            raise HTTPException(500, str(error)) from None

    return app


async def agent(ctx: Context, given: dict[str, Any]) -> dict[str, Any]:
    if given["query"] == "fail":
        raise ValueError("lost the thread")
    await ctx.emit("trace", {"direction": "agent_to_workflow", "raw_command": given["query"]})
    if given["query"] == "wait":
        await asyncio.sleep(LONG_SECONDS)
    return {"success": True, "workflow_name": "answer"}


# ingest


class IngestWire(SseWire):
    def show(self, entry: ShownEntry) -> Frame | None:
        match entry.type:
            case "ingest":
                return frame("progress", entry.data)
            case "execution.completed":
                return frame("complete", {"type": "complete", **entry.data["result"]})
            case "execution.failed":
                return frame("complete", {"type": "complete", "status": "error", "message": entry.data["message"]})
        return None


def ingest(gateway: Gateway) -> FastAPI:
    app = FastAPI()

    @app.post("/ingest/stream")
    async def stream(request: Request, document: str) -> Response:
        given = {"document": document}
        execution = await gateway.resumed(request) or await gateway.bus.submit("ingest", given, labels={"of": "ingest"})
        return gateway.stream(request, execution, wire=IngestWire())

    @app.get("/stats")
    async def stats() -> dict[str, int]:
        return {"active": len((await gateway.bus.count(labels={"of": "ingest"})).executions)}

    return app


STORED: set[str] = set()


async def take_in(ctx: Context, given: dict[str, Any]) -> dict[str, Any]:
    document = given["document"]
    await ctx.emit("ingest", {"step": "checking_cache", "message": f"Looking for {document}"})
    if document in STORED:
        return {"status": "skipped", "message": "It is there already.", "details": {}}
    if document == "broken":
        raise ValueError("There is no such document.")
    STORED.add(document)
    await ctx.emit("ingest", {"step": "stored", "message": f"Stored {document}", "length": len(document)})
    return {"status": "success", "message": "Stored.", "details": {"document": document}}


# pipeline, over SSE and WebSocket

NAMES = {
    "execution.started": "pipeline_start",
    "step.started": "step_start",
    "step.progress": "step_progress",
    "step.completed": "step_complete",
    "step.failed": "step_error",
    "execution.completed": "pipeline_complete",
    "execution.failed": "pipeline_error",
}


def message_of(entry: ShownEntry) -> dict[str, Any]:
    known = {"event_type": NAMES.get(entry.type), "execution_id": entry.execution_id, "step_id": entry.step}
    return {**known, "timestamp": entry.ts, "data": entry.data}


class PipelineSse(SseWire):
    def show(self, entry: ShownEntry) -> Frame | None:
        return frame(NAMES[entry.type], message_of(entry)) if entry.type in NAMES else None


class PipelineMessages(SocketWire):
    def show(self, entry: ShownEntry) -> Frame | None:
        return frame(message_of(entry)) if entry.type in NAMES else None


def pipeline(gateway: Gateway) -> FastAPI:
    app = FastAPI()

    def owned_by(user: str) -> Callable[[Any], bool]:
        return lambda state: state.labels.get("user") == user

    @app.get("/stream/pipeline/{execution_id}")
    async def stream(request: Request, execution_id: str, x_user: Annotated[str, Header()]) -> Response:
        return gateway.stream(request, execution_id, wire=PipelineSse(), allow=owned_by(x_user))

    @app.websocket("/ws/pipeline/{execution_id}")
    async def watch(socket: WebSocket, execution_id: str) -> None:
        user = socket.headers.get("x-user", "")
        await gateway.socket(socket, execution_id, wire=PipelineMessages(), allow=owned_by(user))

    return app


async def count(ctx: Context, given: dict[str, Any]) -> int:
    for number in range(given["count"]):
        await ctx.progress((number + 1) / given["count"])
    return int(given["count"])


# research


class PlanMessages(SocketWire):
    cursor_field = "event_id"

    def show(self, entry: ShownEntry) -> Frame | None:
        if entry.type not in NAMES:
            return None
        name = (
            NAMES[entry.type].replace("pipeline", "plan").replace("start", "started").replace("complete", "completed")
        )
        members = {"plan_id": entry.execution_id, "step_id": entry.step, "data": entry.data, "timestamp": entry.ts}
        return frame({"event_type": name, **members})


def research(gateway: Gateway) -> FastAPI:
    app = FastAPI()

    @app.websocket("/api/v1/streaming/ws/{client_id}")
    async def plans(socket: WebSocket, client_id: str, plan_id: str | None = None) -> None:
        async with gateway.session(socket, wire=PlanMessages()) as session:
            await session.send(frame({"event_type": "ping", "data": {"client_id": client_id}}))
            if plan_id is not None:
                await session.subscribe(plan_id)
            async for message in session:
                match message:
                    case {"action": "subscribe", "plan_id": str(plan)}:
                        try:
                            await session.subscribe(plan, after=message.get("after"))
                        except BusError as error:
                            await session.tell_error(error, plan)
                    case {"action": "unsubscribe", "plan_id": str(plan)}:
                        await session.unsubscribe(plan)
                    case {"action": "ping"}:
                        await session.send(frame({"event_type": "pong"}))

    return app


WORK = Registry(
    [
        Pipeline("agent", (Step("answer", agent),)),
        Pipeline("ingest", (Step("take_in", take_in),)),
        Pipeline("count", tuple(Step(name, count) for name in ("one", "two", "three"))),
    ]
)


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened, working(opened, WORK):
        yield opened


@pytest.fixture
async def instances(bus: Bus, server_url: str) -> AsyncGenerator[Callable[[Callable[[Gateway], FastAPI]], Any], None]:
    """Two of an application: their addresses."""
    async with AsyncExitStack() as stack:

        async def start(application: Callable[[Gateway], FastAPI]) -> list[str]:
            addresses = []
            for _ in range(2):
                own = await stack.enter_async_context(await open_bus(server_url, settings=bus.settings))
                gateway = Gateway(own, settings=GatewaySettings(drain_seconds=0))
                await stack.enter_async_context(gateway.running())
                addresses.append(await stack.enter_async_context(serving(application(gateway))))
            return addresses

        yield start


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient, None]:
    async with httpx.AsyncClient(timeout=patient(30)) as asking:
        yield asking


def blocks(body: str) -> list[tuple[str, str, Any]]:
    found = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
        if "data" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


@pytest.mark.parametrize("application", [assistant, ingest, pipeline, research])
def test_an_application_has_at_most_40_lines(application: Callable[[Gateway], FastAPI]) -> None:
    assert len(inspect.getsource(application).splitlines()) <= 40


async def test_an_assistant_answers_streams_resumes_and_says_what_is_wrong(
    instances: Any, bus: Bus, client: httpx.AsyncClient
) -> None:
    here, there = await instances(assistant)

    async def ask(address: str, path: str = "invoke_agent_stream", last: str = "", **turn: Any) -> httpx.Response:
        headers = {"Last-Event-ID": last} if last else {}
        given = {"user_id": "ann", "user_query": "//hello", **turn}
        return await client.post(f"http://{address}/{path}", json=given, headers=headers)

    whole = blocks((await ask(here, show_agent_traces=True)).text)
    assert [name for _, name, _ in whole] == ["trace", "command_output"]
    assert whole[0][2]["raw_command"] == "hello"
    assert blocks((await ask(there, last=whole[0][0])).text) == whole[1:]
    assert [name for _, name, _ in blocks((await ask(there)).text)] == ["command_output"]
    assert (await ask(there, last=whole[0][0], user_id="bob")).status_code == 404
    assert (await ask(here, user_id="nobody")).status_code == 404
    assert blocks((await ask(here, user_query="fail")).text)[-1][1:] == (
        "error",
        {"code": 500, "detail": "lost the thread"},
    )
    waiting = asyncio.create_task(ask(here, user_query="wait", timeout_seconds=4))

    async def is_begun() -> bool:
        return bool((await bus.count(labels={"user": "ann"})).executions)

    await until_true(is_begun)
    assert (await ask(there)).status_code == 409
    assert blocks((await waiting).text)[-1][2]["code"] == 504
    assert (await ask(here, "invoke_agent")).json() == {"success": True, "workflow_name": "answer"}
    assert (await ask(here, "invoke_agent", user_query="fail")).status_code == 500
    assert (await ask(here, "invoke_agent", user_query="wait", timeout_seconds=0.5)).status_code == 504


async def test_an_ingest_tells_its_steps_and_skips_what_is_there(instances: Any, client: httpx.AsyncClient) -> None:
    here, there = await instances(ingest)
    STORED.clear()
    first = blocks((await client.post(f"http://{here}/ingest/stream?document=a")).text)
    assert [data.get("step") for _, _, data in first] == ["checking_cache", "stored", None]
    assert first[-1][1:] == (
        "complete",
        {"type": "complete", "status": "success", "message": "Stored.", "details": {"document": "a"}},
    )
    resumed = await client.post(f"http://{there}/ingest/stream?document=a", headers={"Last-Event-ID": first[0][0]})
    assert blocks(resumed.text) == first[1:]
    again = blocks((await client.post(f"http://{there}/ingest/stream?document=a")).text)
    assert again[-1][2]["status"] == "skipped"
    broken = blocks((await client.post(f"http://{there}/ingest/stream?document=broken")).text)
    assert broken[-1][2]["message"] == "There is no such document."
    assert (await client.get(f"http://{here}/stats")).json() == {"active": 0}


async def test_a_pipeline_is_watched_over_sse_and_websocket_by_its_user_alone(
    instances: Any, bus: Bus, client: httpx.AsyncClient
) -> None:
    here, there = await instances(pipeline)
    execution = await bus.submit("count", {"count": 3}, labels={"user": "ann"})
    ann, bob = {"X-User": "ann"}, {"X-User": "bob"}
    whole = blocks((await client.get(f"http://{here}/stream/pipeline/{execution}", headers=ann)).text)
    names = ["step_start", *["step_progress"] * 3, "step_complete"]
    assert [name for _, name, _ in whole] == ["pipeline_start", *names * 3, "pipeline_complete"]
    for event_id, _, _ in whole[:-1:5]:
        headers = {**ann, "Last-Event-ID": event_id}
        rest = blocks((await client.get(f"http://{there}/stream/pipeline/{execution}", headers=headers)).text)
        assert rest == whole[[each[0] for each in whole].index(event_id) + 1 :]
    assert (await client.get(f"http://{there}/stream/pipeline/{execution}", headers=bob)).status_code == 404
    url = f"ws://{there}/ws/pipeline/{execution}"
    async with websockets.connect(url, additional_headers=ann) as socket:
        messages = [json.loads(message) async for message in socket]
    assert [{**message, "id": None} for message in messages] == [{**data, "id": None} for _, _, data in whole]
    async with websockets.connect(f"{url}?from={messages[4]['id']}", additional_headers=ann) as socket:
        assert [json.loads(message) async for message in socket] == messages[5:]
    async with websockets.connect(url, additional_headers=bob) as socket:
        assert json.loads(await socket.recv())["code"] == "execution_unknown"


async def test_research_clients_subscribe_come_late_resume_and_leave(instances: Any, bus: Bus) -> None:
    here, there = await instances(research)
    plan = await bus.submit("count", {"count": 3})
    await plan.result(timeout_seconds=patient(20))
    async with (
        websockets.connect(f"ws://{here}/api/v1/streaming/ws/c1?plan_id={plan}") as late,
        websockets.connect(f"ws://{there}/api/v1/streaming/ws/c2") as other,
    ):

        async def said(socket: Any) -> Any:
            return json.loads(await asyncio.wait_for(socket.recv(), patient(10)))

        assert (await said(late))["event_type"] == (await said(other))["event_type"] == "ping"
        history = [await said(late) for _ in range(17)]
        kinds = [message["event_type"] for message in history]
        assert (kinds[0], kinds[-1], kinds.count("step_progress")) == ("plan_started", "plan_completed", 9)
        assert kinds.count("step_started") == kinds.count("step_completed") == 3
        await other.send(json.dumps({"action": "subscribe", "plan_id": plan, "after": history[9]["event_id"]}))
        assert [await said(other) for _ in range(7)] == history[10:]
        await other.send(json.dumps({"action": "subscribe", "plan_id": "none"}))
        assert (await said(other))["code"] == "execution_unknown"
        await other.send(json.dumps({"action": "unsubscribe", "plan_id": plan}))
        await other.send(json.dumps({"action": "ping"}))
        assert await said(other) == {"event_type": "pong"}
