"""Research plans, watched over one WebSocket a client; any instance serves any client."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from alerts import handlers_of
from clients import Client
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.responses import FileResponse
from messages import PlanMessages, message_of
from plans import Plan
from users import User, seen_by

from tailrace import (
    BodyLimit,
    Entry,
    ExecutionUnknownError,
    Gateway,
)

PING_SECONDS = float(os.environ.get("WEBSOCKET_PING_INTERVAL", "30"))
gateway = Gateway(routes={"health"})
checked: Counter[str] = Counter()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    async with gateway.running():
        handlers = app.state.handlers = handlers_of(gateway.bus, checked)
        # The instances share the work: each event is handled once.
        following = asyncio.create_task(handlers.follow_all(gateway.bus, "research", retries=0))
        yield
        following.cancel()
        await asyncio.wait([following])


app = FastAPI(lifespan=lifespan, exception_handlers=gateway.problem_handlers)
app.add_middleware(BodyLimit, max_bytes=1_000_000)
app.include_router(gateway.router)
router = APIRouter(tags=["streaming"])


async def is_seen(plan_id: str, user: str | None) -> bool:
    state = await gateway.bus.state(plan_id)
    return state is not None and seen_by(user)(state)


async def own_plan(plan_id: str, user: User) -> str:
    if not await is_seen(plan_id, user):
        raise ExecutionUnknownError(plan_id)
    return plan_id


OwnPlan = Annotated[str, Depends(own_plan)]


@router.websocket("/ws/{client_id}")
async def connected(
    socket: WebSocket, client_id: str, user: User, plan_id: str | None = None, after: str | None = None
) -> None:
    async with gateway.session(socket, wire=PlanMessages(), subject=client_id[:128], allow=seen_by(user)) as session:
        client = Client(client_id, session, gateway.bus, user)
        async with client.connected(PING_SECONDS):
            if plan_id:
                client.begin(plan_id, after)
            async for message in session:
                await client.hear(message)


@router.get("/clients")
async def clients() -> dict[str, Any]:
    names = sorted({each["subject"] for each in await gateway.clients() if each["kind"] == "websocket"})
    return {"client_count": len(names), "clients": names}


@router.get("/plans/{plan_id}/subscribers")
async def subscribers(plan_id: str, user: User) -> dict[str, Any]:
    count = await gateway.subscribers(plan_id) if await is_seen(plan_id, user) else 0
    return {"plan_id": plan_id, "subscriber_count": count}


@router.get("/plans/{plan_id}/history")
async def history(plan_id: str, request: Request, user: User) -> Any:
    """A plan that is not there, or another user's, has no events. ``history_lost`` says why the first ones are gone."""
    events: list[dict[str, Any]] = []
    told: dict[str, Any] = {"plan_id": plan_id}
    after: str | None = None
    while True:
        page = await gateway.page(request, plan_id, after=after, limit=500, allow=seen_by(user))
        if page.status_code == 404:
            break
        if page.status_code != 200:
            return page
        found = json.loads(bytes(page.body))
        if "gap" in found:
            told["history_lost"] = found["gap"]["reason"]
        entries = [Entry.from_shown(each) for each in found["items"]]
        events += [message for each in entries if (message := message_of(plan_id, each))]
        after = found["next"]
        if not found["more"]:
            break
    return {**told, "event_count": len(events), "events": events}


@router.delete("/plans/{plan_id}/history", status_code=204)
async def clear(plan_id: str, user: User) -> None:
    """Of a plan that has ended; 409 for one that has not."""
    if await is_seen(plan_id, user):
        with suppress(ExecutionUnknownError):
            await gateway.bus.delete(plan_id)


@router.post("/plans", status_code=202)
async def start(plan: Plan, user: User, plan_id: str | None = None) -> dict[str, str]:
    execution = await gateway.bus.submit(
        "research",
        plan.model_dump(),
        execution_id=plan_id,
        labels={"user": user} if user else None,
        timeout_seconds=plan.timeout_seconds,
    )
    return {"plan_id": str(execution)}


@router.post("/plans/{plan_id}/pause", status_code=202)
async def pause(plan_id: OwnPlan) -> None:
    await gateway.bus.control.pause(plan_id)


@router.post("/plans/{plan_id}/resume", status_code=202)
async def resume(plan_id: OwnPlan) -> None:
    await gateway.bus.control.resume(plan_id)


@router.post("/plans/{plan_id}/cancel", status_code=202)
async def cancel(plan_id: OwnPlan) -> None:
    await gateway.bus.control.cancel(plan_id)


@router.post("/plans/{plan_id}/review", status_code=202)
async def review(plan_id: OwnPlan, ask: str, *, accept: bool) -> None:
    await gateway.bus.control.signal(plan_id, f"answer:{ask}", accept)


@router.get("/handlers")
async def of_handlers(request: Request) -> dict[str, Any]:
    """What the handlers of this instance have done."""
    return {"checked": checked, "failures": request.app.state.handlers.failures}


app.include_router(router, prefix="/api/v1/streaming")
app.include_router(router)


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))
