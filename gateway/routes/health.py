"""Whether this process lives, and whether it should be sent work."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from tailrace.bus import BusError, ReplyError
from tailrace.gateway.access.access import Everybody
from tailrace.gateway.context import CurrentGateway, GatewayContext
from tailrace.gateway.http.schemas import Alive, Readiness
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, tags=["health"])

DEADLINE_SECONDS = 1.0
PROBE_SECONDS = 60


@router.get("/healthz", dependencies=[Everybody], summary="Liveness: the process answers, whatever Redis does")
async def healthz() -> Alive:
    return Alive()


@router.get(
    "/readyz",
    dependencies=[Everybody],
    summary="Readiness: Redis answers and the gateway is not draining",
    responses={503: {"model": Readiness, "description": "Not ready; `reasons` says why"}},
)
async def readyz(gateway: CurrentGateway, response: Response) -> Readiness:
    reasons = [*(["draining"] if gateway.draining else []), *await _redis_complaints(gateway)]
    response.headers["Cache-Control"] = "no-store"
    if reasons:
        response.status_code = 503
    return Readiness(
        status="not_ready" if reasons else "ready",
        tail=gateway.hub.tail_mode,
        reasons=reasons,
        degraded=[
            *([] if gateway.stepped is None else [f"direct writes: {gateway.stepped}"]),
            *([] if reasons else await _refused_writes(gateway)),
        ],
    )


async def _refused_writes(gateway: GatewayContext) -> list[str]:
    """Redis is full, or a replica. Viewers are served all the same, so a proxy must not take all gateways out."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            key = gateway.bus.keys.gateway_probe(gateway.bus.name)
            await gateway.bus.commands.command("SET", key, "1", "EX", PROBE_SECONDS)
    except ReplyError as error:
        return [f"redis refuses writes: {error}"]
    except (BusError, TimeoutError):
        # A node of a cluster that is away: the others serve.
        return []
    return []


async def _redis_complaints(gateway: GatewayContext) -> list[str]:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await gateway.bus.commands.command("PING")
    except TimeoutError:
        return [f"redis: no answer within {DEADLINE_SECONDS:g} s"]
    except BusError as error:
        return [f"redis: {error}"]
    return []
