"""Pipelines from JSON, watched over WebSocket or Server-Sent Events, by the user who began them only."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response, WebSocket, WebSocketException
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection
from steps import steps
from subscribers import Subscribers
from wire import TYPES, PipelineMessages, PipelineSse

from tailrace import (
    BodyLimit,
    BusError,
    ExecutionFailedError,
    Gateway,
    InvalidInputError,
    PipelineInvalidError,
    Registry,
    State,
    built_in,
    pipeline_from,
)

USERS = {"token-of-ann": "ann", "token-of-bob": "bob"}
KNOWN = built_in(allow_command=False).joined(Registry(steps=steps)).steps


async def current_user(connection: HTTPConnection, token: Annotated[str, Query()] = "") -> str:
    """Pages cannot send headers with a WebSocket or an EventSource: there the token is in the query."""
    user = USERS.get(connection.headers.get("authorization", "").removeprefix("Bearer ") or token)
    if user is None:
        wrong = "this token is not known"
        raise WebSocketException(1008, wrong) if connection.scope["type"] == "websocket" else HTTPException(401, wrong)
    return user


async def only_types(connection: HTTPConnection, types: Annotated[str, Query()] = "") -> frozenset[str]:
    """Names of events, by commas, to be told of; of all of them without."""
    names = frozenset(filter(None, types.split(",")))
    if unknown := sorted(names - TYPES):
        wrong = f"types: {unknown[0][:64]!r} is not one of {', '.join(sorted(TYPES))}"
        raise WebSocketException(1008, wrong) if connection.scope["type"] == "websocket" else HTTPException(422, wrong)
    return names


User = Annotated[str, Depends(current_user)]
Only = Annotated[frozenset[str], Depends(only_types)]


class Run(BaseModel):
    pipeline: dict[str, Any]
    input: dict[str, Any] = {}
    execution_id: str | None = Field(None, pattern="^[A-Za-z0-9_-]{1,128}$")


class Answer(BaseModel):
    ask: str
    answer: Any = None


gateway = Gateway(routes={"health"})
told = Subscribers()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    async with gateway.running(), told.following(gateway.bus):
        yield


app = FastAPI(lifespan=lifespan, exception_handlers=gateway.problem_handlers)


def plain_name(title: str) -> str:
    """As a pipeline's name has to be: "Streaming Pipeline" is streaming-pipeline."""
    return re.sub("[^a-z0-9_-]+", "-", title.lower()).strip("-_0123456789")[:64] if title.strip() else title


def owned_by(user: str) -> Any:
    def owns(state: State) -> bool:
        return state.labels.get("user") == user

    return owns


async def own_execution(execution_id: str, user: User) -> str:
    state = await gateway.bus.state(execution_id)
    if state is None or not owned_by(user)(state):
        raise HTTPException(404, f"there is no execution {execution_id}")
    return execution_id


app.add_middleware(BodyLimit, max_bytes=1_000_000)
app.include_router(gateway.router)


@app.post("/pipelines/run")
async def run(asked: Run, user: User, response: Response) -> dict[str, Any]:
    """202 and where to watch; or, without streaming, the output itself."""
    document = {"streaming": {"enabled": False}, **asked.pipeline, "input": asked.input}
    if isinstance(document.get("name"), str):
        document["name"] = plain_name(document["name"])
    try:
        streaming = pipeline_from(document, KNOWN).streaming
    except PipelineInvalidError as error:
        raise HTTPException(422, str(error)) from None
    labels = {"user": user}
    execution = await gateway.bus.submit("pipeline", document, execution_id=asked.execution_id, labels=labels)
    if streaming.enabled:
        response.status_code = 202
        ways = {"ws": f"/ws/pipeline/{execution}", "stream": f"/stream/pipeline/{execution}"}
        return {"execution_id": str(execution), **ways}
    try:
        return {"execution_id": str(execution), "output": await execution.result()}
    except ExecutionFailedError as error:
        raise HTTPException(500, str(error)) from None


@app.get("/stream/pipeline/{execution_id}")
async def stream(execution_id: str, request: Request, user: User, only: Only, step: str | None = None) -> Response:
    return gateway.stream(request, execution_id, wire=PipelineSse(only), step=step, allow=owned_by(user))


@app.websocket("/ws/pipeline/{execution_id}")
async def watch(
    socket: WebSocket, execution_id: str, user: User, only: Only, step: str | None = None, *, compress: bool = False
) -> None:
    wire = PipelineMessages(only)
    await gateway.socket(socket, execution_id, wire=wire, step=step, allow=owned_by(user), compress=compress)


@app.websocket("/ws/pipelines")
async def watch_several(socket: WebSocket, user: User, only: Only) -> None:
    """Many executions on one connection; subscriptions come and go."""
    async with gateway.session(socket, wire=PipelineMessages(only), allow=owned_by(user), subject=user) as session:
        async for message in session:
            try:
                match message:
                    case {"action": "subscribe", "execution_id": str(execution)}:
                        after = message.get("after")
                        await session.subscribe(execution, after=after if isinstance(after, str) else None)
                    case {"action": "unsubscribe", "execution_id": str(execution)}:
                        await session.unsubscribe(execution)
                    case _:
                        wrong = "send an action, subscribe or unsubscribe, and an execution_id"
                        await session.tell_error(InvalidInputError("message", wrong))
            except BusError as error:
                await session.tell_error(error, execution[:128])


@app.post("/pipelines/{execution_id}/answer", status_code=202)
async def answer(execution_id: Annotated[str, Depends(own_execution)], given: Answer, user: User) -> None:
    await gateway.bus.control.signal(execution_id, f"answer:{given.ask}", given.answer, by=user)


@app.get("/subscribers", dependencies=[Depends(current_user)])
async def subscribers() -> dict[str, Any]:
    """What the subscribers have seen of all executions, over all instances, since this one was started."""
    seen: dict[str, Any] = told.snapshot()
    return seen


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))
