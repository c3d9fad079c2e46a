"""GET /v1/stats: counts, for people and monitors; for Prometheus there is /metrics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from tailrace.bus.model.labels import MAX_LABELS, parse_label
from tailrace.bus.queries.counts import count_labelled
from tailrace.gateway.access.access import ReadAccess
from tailrace.gateway.context import CurrentGateway, GatewayContext
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, tags=["activity"])


class Active(BaseModel):
    """Executions that have not ended, of those that the credential covers."""

    by_status: dict[str, int] = Field(examples=[{"cancelling": 0, "paused": 0, "queued": 3, "running": 2}])
    by_pipeline: dict[str, int] = Field(examples=[{"document": 5}])
    total: int = Field(examples=[5])
    complete: bool = Field(description="false when there are more than 1000: then these are the counts of 1000")


class GatewayStats(BaseModel):
    """Counts of one gateway, the one that answers."""

    viewers: int = Field(description="live SSE, NDJSON and WebSocket subscriptions", examples=[12])
    activity_viewers: int = Field(description="of these, of `/v1/activity`", examples=[1])
    watched_executions: int = Field(examples=[4])
    tail: str = Field(description="how Redis is watched", examples=["tracking"])
    draining: bool
    counters: dict[str, int] = Field(
        description="since it started; the same as in /metrics", examples=[{"appended_events": 5, "slow_cuts": 0}]
    )


class Stats(BaseModel):
    executions: Active
    gateway: GatewayStats | None = Field(description="null for a credential of one tenant or of some executions")


@router.get("/stats", summary="What is going on, in counts", responses=problems(400, 409, 422, 503))
async def read_stats(
    access: ReadAccess,
    gateway: CurrentGateway,
    response: Response,
    label: Annotated[
        list[str] | None,
        Query(
            description="Count only executions with this label, as `name:value`; may be given several times",
            max_length=MAX_LABELS,
            examples=[["user:ann"]],
        ),
    ] = None,
) -> Stats:
    response.headers["Cache-Control"] = "no-store"
    labels = [parse_label(each) for each in label or ()]
    tenant = access.tenant
    bus = gateway.bus
    counted = await (count_labelled(bus.log, bus.index, labels, tenant) if labels else gateway.counts.latest())
    live = counted.where(access.covers)
    return Stats(
        executions=Active(
            by_status=live.by_status,
            by_pipeline=live.by_pipeline,
            total=len(live.executions),
            complete=live.complete,
        ),
        gateway=_own(gateway) if access.sees_all else None,
    )


def _own(gateway: GatewayContext) -> GatewayStats:
    return GatewayStats(
        viewers=gateway.hub.viewers + gateway.activity.viewers,
        activity_viewers=gateway.activity.viewers,
        watched_executions=gateway.hub.topics,
        tail=gateway.hub.tail_mode,
        draining=gateway.draining,
        counters=dict(sorted(gateway.bus.counters.items())),
    )
