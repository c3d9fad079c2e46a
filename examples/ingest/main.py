"""Ingests of documents: their steps as a stream, which any instance can go on with; stats, and what agents do."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import library
from agents import LOG, AgentLog
from documents import Document, Limit, check_text, document_at, document_of
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fetching import check_origin
from pydantic import AfterValidator, BaseModel, Field, model_validator
from stats import LABELS, Stats, stats_of
from wire import AgentsWire, IngestWire

from tailrace import BodyLimit, Bus, ConcurrencyConflictError, Gateway, Handle, State

START_SECONDS = 30.0
TIMEOUT_SECONDS = 3600.0
HEARTBEAT_SECONDS = float(os.environ.get("INGEST_HEARTBEAT_SECONDS", "15"))
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Access-Control-Allow-Origin": "*"}
gateway = Gateway(routes={"health"})
stats = Stats()


def _ingestible(url: str) -> str:
    document_at(url)
    checked: str = check_origin(url)
    return checked


def _printable(title: str) -> str:
    if not title.isprintable():
        raise ValueError("must be printable characters")
    return title


class Sent(BaseModel):
    title: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)] = "untitled"
    text: Annotated[str, Field(max_length=500_000), AfterValidator(check_text)]


class IngestRequest(BaseModel):
    """Either a URL, or a document that is sent along. ``channel_limit`` is for channels."""

    url: Annotated[str, AfterValidator(_ingestible)] | None = None
    document: Sent | None = None
    channel_limit: Limit = "50"

    @model_validator(mode="after")
    def _one_of_both(self) -> IngestRequest:
        if (self.url is None) == (self.document is None):
            raise ValueError("give either a url or a document")
        return self


async def heartbeats(bus: Bus) -> None:
    """Into the log of the agents: who watches them sees that the way there is open, and which instances live."""
    source_id = f"instance_{socket.gethostname()}_{os.getpid()}"
    payload = {"agent_name": "instance", "status": "alive", "message": "", "progress": None}
    log = AgentLog(bus)
    try:
        while True:
            await log.tell("heartbeat", source_id, "heartbeat", payload)
            await asyncio.sleep(HEARTBEAT_SECONDS)
    finally:
        await log.aclose()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    async with gateway.running():
        tasks = [asyncio.create_task(each) for each in (stats.follow(gateway.bus), heartbeats(gateway.bus))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


app = FastAPI(lifespan=lifespan, exception_handlers=gateway.problem_handlers)
app.add_middleware(BodyLimit, max_bytes=1_000_000)
app.include_router(gateway.router)


def is_ingest(state: State) -> bool:
    return bool(state.labels.get("application") == LABELS["application"])


async def submitted(asked: IngestRequest) -> Handle:
    """The ingest of the same document that is in flight, where there is one."""
    document: Document
    if asked.document is not None:
        document = document_of(asked.document.title, asked.document.text)
        given: dict[str, Any] = asked.document.model_dump()
    else:
        document = document_at(asked.url or "")
        given = {"url": document.source, "channel_limit": asked.channel_limit}
    key = f"{document.key}-{asked.channel_limit}" if document.kind == "channel" else document.key
    try:
        return await gateway.bus.submit(
            "ingest",
            given,
            labels={**LABELS, "type": document.kind, "source": document.source[:128]},
            concurrency_key=key,
            timeout_seconds=TIMEOUT_SECONDS,
            start_within_seconds=START_SECONDS,
        )
    except ConcurrencyConflictError as error:
        return gateway.bus.handle(error.execution_id)


@app.post("/ingest/stream")
async def ingest_stream(asked: IngestRequest, request: Request) -> Response:
    """With ``Last-Event-ID`` it goes on with the ingest of that event, and begins none."""
    return await watched(request, await gateway.resumed(request) or await submitted(asked))


@app.get("/ingest/stream/{ingest_id}")
async def watch(ingest_id: str, request: Request) -> Response:
    """The same again, from its beginning or behind ``Last-Event-ID``; an EventSource can only get."""
    return await watched(request, gateway.bus.handle(ingest_id))


async def watched(request: Request, ingest: Handle) -> Response:
    state = await gateway.bus.state(ingest)
    if state is None or not is_ingest(state):
        raise HTTPException(404, f"no ingest has the id {ingest}")
    response = gateway.stream(request, ingest, wire=IngestWire(state.labels["type"]), allow=is_ingest)
    response.headers.update({**STREAM_HEADERS, "X-Ingest-Id": str(ingest)})
    return response


@app.get("/ingest")
async def ingested(limit: Limit = "50") -> dict[str, Any]:
    """What has been ingested in the last month or year, or the newest 50 or 100, or all."""
    documents = await library.listed(limit)
    return {"limit": limit, "count": len(documents), "documents": documents}


@app.get("/stats")
async def stats_now() -> dict[str, Any]:
    now: dict[str, Any] = await stats_of(gateway.bus)
    return now


@app.get("/stats/stream")
async def stats_stream() -> Response:
    """It begins with the stats as they are, so there is nothing to resume."""
    stream = stats.stream(lambda: gateway.is_draining)
    return StreamingResponse(stream, headers=STREAM_HEADERS, media_type="text/event-stream")


Names = Annotated[str, Query(max_length=2000)]


@app.get("/agents/stream")
async def agents_stream(request: Request, agent_type: Names = "", agent_id: Names = "") -> Response:
    """From now on, or behind ``Last-Event-ID``; of agents whose name and source are among these, by commas."""
    wire = AgentsWire(*(frozenset(filter(None, names.split(","))) for names in (agent_type, agent_id)))
    # The log is there once an instance has had its first heartbeat.
    response = gateway.stream(request, LOG, wire=wire, after="tail", wait_for_start=HEARTBEAT_SECONDS * 2)
    response.headers.update(STREAM_HEADERS)
    return response


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))
