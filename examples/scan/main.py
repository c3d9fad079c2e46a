"""Scans of a target by a graph of agents; three views of each as streams, which any instance can go on with."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from fastapi import FastAPI, HTTPException, Request, Response
from probes import AGENTS, check_target
from pydantic import AfterValidator, BaseModel, Field, model_validator
from swarm import Given, Persistence
from wire import ScanWire

from tailrace import BodyLimit, Gateway, Handle, State

START_SECONDS = 30.0
TIMEOUT_SECONDS = 3600.0
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
APPLICATION = {"application": "scan"}
# What the gateway calls the mode of the graph's stream that a view is made of; None for all.
GRAPH_MODES = {"values": "updates", "custom": "custom", "debug": None}
gateway = Gateway(routes={"health"})


class ScanStreamMode(StrEnum):
    VALUES = "values"
    CUSTOM = "custom"
    DEBUG = "debug"


def _target(url: str) -> str:
    check_target(url)
    return url


def _known(agent: str) -> str:
    if agent not in AGENTS:
        raise ValueError(f"{agent[:32]!r} is not an agent; there are {', '.join(AGENTS)}")
    return agent


class ScanRequest(BaseModel):
    """Either a target, or a scan that has ended and left a checkpoint to go on from."""

    target_url: Annotated[str, AfterValidator(_target)] | None = None
    campaign_id: Annotated[str, Field(max_length=128)] | None = None
    agent_types: Annotated[
        list[Annotated[str, AfterValidator(_known)]], Field(min_length=1, max_length=len(AGENTS))
    ] = list(AGENTS)
    checkpoint: Persistence = "persistent"
    resume: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.target_url is None) == (self.resume is None):
            raise ValueError("give either a target_url or a scan to resume")
        return self


app = FastAPI(lifespan=gateway.lifespan, exception_handlers=gateway.problem_handlers)
app.add_middleware(BodyLimit, max_bytes=1_000_000)
app.include_router(gateway.router)


def is_scan(state: State) -> bool:
    return bool(state.labels.get("application") == APPLICATION["application"])


async def scan_of(scan_id: str) -> State:
    state = await gateway.bus.state(scan_id)
    if state is None or not is_scan(state):
        raise HTTPException(404, f"no scan has the id {scan_id}")
    return state


async def submitted(asked: ScanRequest) -> Handle:
    given = Given(
        target_url=asked.target_url or "",
        campaign_id=asked.campaign_id,
        agent_types=list(dict.fromkeys(asked.agent_types)),
        checkpoint=asked.checkpoint,
    )
    if asked.resume is not None:
        before = await scan_of(asked.resume)
        if not before.ended or before.status == "completed":
            raise HTTPException(409, f"scan {asked.resume} is {before.status}; only one that was cut short goes on")
        if before.labels["checkpoint"] != "persistent":
            raise HTTPException(409, f"scan {asked.resume} has left no checkpoint that any worker can go on from")
        # What a resumed scan leaves belongs to the first of them.
        given.thread, given.checkpoint = before.labels.get("thread", asked.resume), "persistent"
    labels = {**APPLICATION, "checkpoint": given.checkpoint}
    labels |= {"thread": given.thread} if given.thread else {}
    labels |= {"campaign": given.campaign_id} if given.campaign_id else {}
    return await gateway.bus.submit(
        "scan",
        given.model_dump(),
        labels=labels,
        # One at a time goes on with the same checkpoints.
        concurrency_key=given.thread,
        timeout_seconds=TIMEOUT_SECONDS,
        start_within_seconds=START_SECONDS,
    )


@app.post("/api/v1/scan/stream")
async def stream_scan(
    asked: ScanRequest, request: Request, stream_mode: ScanStreamMode = ScanStreamMode.CUSTOM
) -> Response:
    """With ``Last-Event-ID`` it goes on with the scan of that event, and begins none."""
    scan = await gateway.resumed(request) or await submitted(asked)
    return await watched(request, str(scan), stream_mode)


@app.get("/api/v1/scan/stream/{scan_id}")
async def watch_scan(scan_id: str, request: Request, stream_mode: ScanStreamMode = ScanStreamMode.CUSTOM) -> Response:
    """The same scan again, in any view, from its beginning or behind ``Last-Event-ID``."""
    return await watched(request, scan_id, stream_mode)


async def watched(request: Request, scan_id: str, mode: ScanStreamMode) -> Response:
    await scan_of(scan_id)
    response = gateway.stream(request, scan_id, wire=ScanWire(mode.value), mode=GRAPH_MODES[mode.value], allow=is_scan)
    response.headers.update({**STREAM_HEADERS, "X-Scan-Id": scan_id})
    return response


@app.get("/api/v1/scan/{scan_id}")
async def scan_state(scan_id: str) -> dict[str, Any]:
    state = await scan_of(scan_id)
    return {
        "scan_id": scan_id,
        "status": state.status,
        "attempt": state.attempt,
        "campaign_id": state.labels.get("campaign"),
        "checkpoint": state.labels["checkpoint"],
    }


@app.post("/api/v1/scan/{scan_id}/cancel", status_code=202)
async def cancel_scan(scan_id: str) -> dict[str, str]:
    """It stops between two probes, or in the middle of one; on whichever host it runs."""
    await scan_of(scan_id)
    outcome = await gateway.bus.handle(scan_id).cancel()
    return {"scan_id": scan_id, "outcome": outcome.status}
