"""The activity and its groups on a real Redis Cluster: stream, logs and bookmarks stand on different nodes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tailrace.bus import BusSettings, open_bus
from tailrace.workers.handlers import Delivery, Handlers
from tests.integration.deployment.clusters import cluster
from tests.integration.workers.watching import until

pytestmark = pytest.mark.anyio


async def test_all_executions_are_followed_on_a_cluster(tmp_path: Path) -> None:
    handlers, ended = Handlers(), set[str]()

    @handlers.on("execution.completed")
    async def note(event: Delivery) -> None:
        ended.add(event.execution_id)

    runs = {f"run-{number}" for number in range(20)}
    with cluster(tmp_path) as nodes:
        async with await open_bus(nodes.url, settings=BusSettings(prefix="t")) as bus:
            following = asyncio.create_task(handlers.follow_all(bus, "billing"))
            for run in sorted(runs):
                async with bus.execution(run):
                    pass
            await until(lambda: ended == runs or following.done())
            following.cancel()
            await asyncio.wait([following])
    assert following.cancelled()
    assert ended == runs
