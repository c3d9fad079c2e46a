"""Research plans: what a client may submit, and how a worker runs it."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, Field, field_validator

from tailrace import Context, Pipeline, Registry, Step

SOURCES = (
    "Rivers carry sediment to the sea.",
    "A weir raises the level of a river.",
    "A tailrace carries water away from a mill.",
)
# Steps that a plan gets from us, before and behind its own; nobody is told of them.
BEGIN, END = "plan-begin", "plan-end"


class QualityGate(BaseModel):
    """What a step must reach; with ``review`` a person decides about one that does not."""

    min_score: float = Field(0.7, ge=0, le=1)
    review: bool = False


class PlanStep(BaseModel):
    step_id: str = Field(pattern="^[a-z0-9][a-z0-9_]{0,62}$")
    query: str = Field(min_length=1, max_length=1000)
    seconds: float = Field(0.0, ge=0, le=3600)
    quality_gate: QualityGate | None = None


class Plan(BaseModel):
    query: str = Field(min_length=1, max_length=1000)
    research_type: str = "comprehensive"
    steps: list[PlanStep] = Field(min_length=1, max_length=200)
    metrics: bool = False
    timeout_seconds: float | None = Field(None, gt=0, le=86_400)

    @field_validator("steps")
    @classmethod
    def _differ(cls, steps: list[PlanStep]) -> list[PlanStep]:
        names = [step.step_id for step in steps]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"step_id {twice!r} is used twice; give each step one of its own")
        return steps


async def begin(ctx: Context, plan: Plan) -> None:
    data = {"query": plan.query, "total_steps": len(plan.steps), "research_type": plan.research_type}
    await ctx.emit("plan.started", data)


async def research(ctx: Context, step: PlanStep, plan: Plan) -> dict[str, Any]:
    """Three quarters are told. Who takes it over, or resumes it, goes on behind the last one that was kept."""
    for quarter in range(ctx.restored or 0, 3):
        await asyncio.sleep(step.seconds / 3)
        await ctx.progress((quarter + 1) / 4, f"{25 * (quarter + 1)} % of {step.query!r}")
        await ctx.checkpoint(quarter + 1)
    words = {word.lower() for word in step.query.split()}
    found = [source for source in SOURCES if words & set(source.lower().rstrip(".").split())]
    known = {word for source in found for word in source.lower().rstrip(".").split()}
    score = len(words & known) / len(words)
    result: dict[str, Any] = {"status": "success", "quality_score": score, "data": {"findings": found}}
    if plan.metrics:
        await ctx.metric("findings", len(found))
    if (gate := step.quality_gate) is not None:
        passed = score >= gate.min_score
        await ctx.quality("findings", score, passed)
        if not passed and not (gate.review and await ctx.ask(f"Accept a quality of {score:.2f}?", bool)):
            raise ValueError(f"the quality {score:.2f} of step {step.step_id} is below {gate.min_score}")
    return result


async def end(ctx: Context, outputs: dict[str, Any]) -> dict[str, Any]:
    del ctx
    return {"status": "success", "results": {name: output for name, output in outputs.items() if name != BEGIN}}


def unfold(plan: Plan) -> tuple[Pipeline, Any]:
    async def begins(ctx: Context) -> None:
        await begin(ctx, plan)

    steps = (Step(each.step_id, _one(each, plan)) for each in plan.steps)
    return Pipeline("research", (Step(BEGIN, begins), *steps, Step(END, end))), plan


def _one(step: PlanStep, plan: Plan) -> Any:
    async def run(ctx: Context) -> dict[str, Any]:
        return await research(ctx, step, plan)

    return run


registry = Registry([Pipeline("research", input_model=Plan, unfold=unfold)])
