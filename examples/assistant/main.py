"""An assistant: a turn of a user is answered as a stream, which any instance can go on with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from pydantic import AfterValidator, BaseModel, Field
from session import labels_of, open_session, todos_of
from wire import TurnWire, trace_of
from workflow import MAX_COMMANDS, NAME, commands_of

from tailrace import BodyLimit, Entry, Gateway, Handle, State

START_SECONDS = 30.0
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
gateway = Gateway(routes={"health"})
answered, *_ = gateway.problem_handlers.values()


def _printable(user_id: str) -> str:
    if not user_id.isprintable():
        raise ValueError("must be printable characters")
    return user_id


def _stripped(query: str) -> str:
    """Without the slash that clients of a command line write: "/create a todo"."""
    query = query.strip().lstrip("/").strip()
    count = len(commands_of(query))
    if not 1 <= count <= MAX_COMMANDS:
        raise ValueError(f"has {count} commands; give it from 1 to {MAX_COMMANDS}")
    return query


UserId = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]


class Initialization(BaseModel):
    user_id: UserId


class Invocation(BaseModel):
    user_id: UserId
    user_query: Annotated[str, Field(max_length=10_000), AfterValidator(_stripped)]
    timeout_seconds: float = Field(60.0, gt=0, le=3600, allow_inf_nan=False)
    show_agent_traces: bool = False


async def problem(request: Request, error: Any) -> Response:
    """As JSON; for a client that asks for a stream as the one event of it, under the same status."""
    told = await answered(request, error)
    if "text/event-stream" not in request.headers.get("accept", ""):
        return told
    data = {"code": told.status_code, "detail": json.loads(bytes(told.body))["detail"]}
    event = f"event: error\ndata: {json.dumps(data)}\n\n"
    return Response(event, told.status_code, STREAM_HEADERS, media_type="text/event-stream")


app = FastAPI(lifespan=gateway.lifespan, exception_handlers=dict.fromkeys(gateway.problem_handlers, problem))
app.add_middleware(BodyLimit, max_bytes=1_000_000)
app.include_router(gateway.router)


def owned_by(user_id: str) -> Callable[[State], bool]:
    def owns(state: State) -> bool:
        return bool(state.labels == labels_of(user_id))

    return owns


async def session(asked: Invocation) -> None:
    if await todos_of(gateway.bus, asked.user_id) is None:
        raise HTTPException(404, f"user {asked.user_id} has no session, or it has expired; POST /initialize begins one")


async def submitted(asked: Invocation) -> Handle:
    """Raises ConcurrencyConflictError, which is answered with 409, while the user's turn is in flight."""
    await session(asked)
    return await gateway.bus.submit(
        "assistant",
        {"user_id": asked.user_id, "user_query": asked.user_query},
        labels=labels_of(asked.user_id),
        concurrency_key=asked.user_id,
        timeout_seconds=asked.timeout_seconds,
        start_within_seconds=START_SECONDS,
    )


@app.post("/initialize")
async def initialize(asked: Initialization) -> dict[str, Any]:
    """Begins a session where there is none."""
    new = await open_session(gateway.bus, asked.user_id)
    return {"user_id": asked.user_id, "workflow_name": NAME, "new": new}


@app.post("/invoke_agent_stream")
async def invoke_agent_stream(asked: Invocation, request: Request) -> Response:
    """With ``Last-Event-ID`` it goes on with the turn of that event, and begins none."""
    turn = await gateway.resumed(request) or await submitted(asked)
    return await stream(request, turn, asked.user_id, show_traces=asked.show_agent_traces)


@app.get("/invoke_agent_stream/{turn_id}")
async def watch(turn_id: str, request: Request, user_id: UserId, *, show_agent_traces: bool = False) -> Response:
    """The same turn again, from its beginning or behind ``Last-Event-ID``; an EventSource can only get."""
    return await stream(request, gateway.bus.handle(turn_id), user_id, show_traces=show_agent_traces)


async def stream(request: Request, turn: Handle, user_id: str, *, show_traces: bool) -> Response:
    state = await gateway.bus.state(turn)
    if state is None or not owned_by(user_id)(state):
        raise HTTPException(404, f"user {user_id} has no turn {turn}")
    response = gateway.stream(request, turn, wire=TurnWire(show_traces=show_traces), allow=owned_by(user_id))
    response.headers.update({**STREAM_HEADERS, "X-Turn-Id": str(turn)})
    return response


@app.post("/invoke_agent")
async def invoke_agent(asked: Invocation) -> dict[str, Any]:
    """The command output itself; 504 or 500 where there is none."""
    turn = await submitted(asked)
    output: dict[str, Any] = await turn.result()
    if asked.show_agent_traces:
        entries = [entry async for entry in turn.events() if isinstance(entry, Entry)]
        output["traces"] = [trace for entry in entries if (trace := trace_of(entry))]
    return output


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))
