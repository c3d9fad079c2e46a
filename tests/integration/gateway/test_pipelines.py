"""GET /v1/pipelines: what live workers run."""

from __future__ import annotations

import httpx
import pytest
from pydantic import BaseModel

from tailrace.bus import Bus
from tailrace.bus.jobs.offers import MAX_OFFER_BYTES, Offer, OfferedPipeline
from tailrace.gateway.routes.pipelines import PipelineList, pipelines_of
from tailrace.gateway.settings import read_settings
from tailrace.workers import Context, Pipeline, Registry, Step
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import live_gateway
from tests.integration.workers.watching import working

pytestmark = pytest.mark.anyio


class Order(BaseModel):
    city: str
    count: int = 1


class Huge(BaseModel):
    """Its description is too large to be offered."""

    model_config = {"json_schema_extra": {"description": "x" * MAX_OFFER_BYTES}}


async def nothing(_ctx: Context) -> None: ...


REGISTRY = Registry(
    [
        Pipeline("order", (Step("check", nothing), Step("ship", nothing)), Order),
        Pipeline("any", (Step("only", nothing),)),
        Pipeline("huge", (Step("only", nothing),), Huge),
    ]
)


async def names(client: httpx.AsyncClient) -> list[str]:
    answer = await client.get("/v1/pipelines")
    assert answer.status_code == 200, answer.text
    return [item.name for item in PipelineList.model_validate(answer.json()).items]


async def test_a_worker_offers_its_pipelines_with_their_schemas_until_it_stops(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    async def offered() -> bool:
        """The worker has said what it runs."""
        return await names(client) == ["any", "huge", "order"]

    async with working(bus, REGISTRY, queues=("fast", "slow")):
        await eventually(offered)
        listed = (await client.get("/v1/pipelines")).json()
        assert listed["complete"] is True
        of = {item["name"]: item for item in listed["items"]}
        assert of["order"] == {
            "name": "order",
            "input_schema": Order.model_json_schema(),
            "steps": ["check", "ship"],
            "queues": ["fast", "slow"],
            "workers": 1,
            "same_everywhere": True,
        }
        assert of["any"]["input_schema"] is None
        assert of["huge"]["input_schema"] is None
        ttl = await bus.commands.command("TTL", bus.keys.workers())
        assert 0 < ttl <= 60
    assert await names(client) == []


async def test_a_killed_worker_and_what_a_stranger_wrote_are_not_listed(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.offers.publish(offer("lives", OfferedPipeline(name="a")))
    await bus.offers.publish(offer("killed", OfferedPipeline(name="b")))
    await bus.commands.command("DEL", bus.keys.worker_offer("killed"))
    for name, raw in (("garbage", "{"), ("liar", offer("other", OfferedPipeline(name="c")).model_dump_json())):
        await bus.commands.command("ZADD", bus.keys.workers(), "9" * 15, name)
        await bus.commands.command("SET", bus.keys.worker_offer(name), raw)
    await bus.commands.command("ZADD", bus.keys.workers(), 1, "long gone")
    assert await names(client) == ["a"]
    assert bus.counters["offers_unusable"] == 1
    assert await bus.commands.command("ZSCORE", bus.keys.workers(), "long gone") is None


async def test_a_gateway_that_submits_to_some_queues_lists_what_their_workers_run(bus: Bus) -> None:
    await bus.offers.publish(offer("one", OfferedPipeline(name="a"), queue="public"))
    await bus.offers.publish(offer("two", OfferedPipeline(name="b"), queue="private"))
    async with (
        live_gateway(bus, read_settings(drain_seconds=0, submit_queues="public")) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        assert await names(client) == ["a"]


def test_of_two_versions_the_newest_is_shown_and_the_difference_told() -> None:
    old = OfferedPipeline(name="a", steps=["x"])
    new = OfferedPipeline(name="a", steps=["x", "y"])
    (item,) = pipelines_of([offer("w1", old, since_ms=1), offer("w2", new, since_ms=2, queue="q")], ())
    assert (item.steps, item.workers, item.same_everywhere, item.queues) == (["x", "y"], 2, False, ["default", "q"])


def offer(worker: str, pipeline: OfferedPipeline, *, queue: str = "default", since_ms: int = 1) -> Offer:
    return Offer(worker=worker, queues=[queue], concurrency=1, since_ms=since_ms, pipelines=[pipeline])
