"""GET /v1/pipelines: what can be submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from tailrace.bus.jobs.offers import Offer, OfferedPipeline
from tailrace.gateway.access.access import SubmitAccess
from tailrace.gateway.context import CurrentGateway
from tailrace.gateway.http.problem_docs import problems
from tailrace.gateway.routes.problem_route import ProblemRoute

router = APIRouter(route_class=ProblemRoute, tags=["executions"])

_SCHEMA: dict[str, Any] = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


class PipelineItem(BaseModel):
    """A pipeline that live workers run. ``input_schema`` is a JSON Schema, and null where there is none."""

    name: str = Field(examples=["document"])
    input_schema: dict[str, Any] | None = Field(examples=[_SCHEMA])
    steps: list[str] = Field(examples=[["fetch", "chunk"]])
    queues: list[str] = Field(description="those of the workers that run it", examples=[["default"]])
    workers: int = Field(examples=[2])
    same_everywhere: bool = Field(
        description="false while its workers disagree on schema or steps; shown are those of the newest worker"
    )


class PipelineList(BaseModel):
    """By name. ``complete`` is false where more than 256 workers live: then these are the pipelines of 256."""

    items: list[PipelineItem]
    complete: bool


@router.get(
    "/pipelines",
    summary="List the pipelines that live workers run",
    description="With the JSON Schema of their inputs, for a form. True within seconds; a worker that was killed is "
    "listed for up to 30 s more. A gateway that submits to some queues only lists what workers of these run.",
    responses=problems(503),
)
async def read_pipelines(access: SubmitAccess, gateway: CurrentGateway, response: Response) -> PipelineList:
    del access
    response.headers["Cache-Control"] = "no-store"
    offers, complete = await gateway.bus.offers.all()
    return PipelineList(items=pipelines_of(offers, gateway.settings.submit_queues), complete=complete)


def pipelines_of(offers: Sequence[Offer], allowed_queues: tuple[str, ...]) -> list[PipelineItem]:
    """Put together what workers offer; without ``allowed_queues``, all of them are."""
    by_name: dict[str, list[tuple[OfferedPipeline, list[str]]]] = {}
    for offer in sorted(offers, key=lambda each: (-each.since_ms, each.worker)):
        queues = [name for name in offer.queues if not allowed_queues or name in allowed_queues]
        for pipeline in offer.pipelines if queues else ():
            by_name.setdefault(pipeline.name, []).append((pipeline, queues))
    return [
        PipelineItem(
            **found[0][0].model_dump(),
            queues=sorted({name for _, queues in found for name in queues}),
            workers=len(found),
            same_everywhere=all(pipeline == found[0][0] for pipeline, _ in found),
        )
        for _, found in sorted(by_name.items())
    ]
