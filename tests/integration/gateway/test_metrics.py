"""/metrics: what is counted anyway, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tailrace.bus import Bus
from tailrace.gateway.metrics import ALWAYS

pytestmark = pytest.mark.anyio


async def samples(client: httpx.AsyncClient) -> dict[str, float]:
    """By name, with the labels' values behind it."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


async def caught_up(lines: AsyncIterator[str]) -> None:
    """Before that, a viewer may not have joined yet. Hold on to the lines: without them the response is closed."""
    await until_line(lines, "event: stream.caught_up")


async def until_line(lines: AsyncIterator[str], wanted: str) -> None:
    async for line in lines:
        if line == wanted:
            return
    raise AssertionError("the stream ended")


async def test_every_counter_of_the_bus_is_there(bus: Bus, client: httpx.AsyncClient) -> None:
    bus.counters.add("something_of_a_kind", 3)
    found = await samples(client)
    assert found["tailrace_something_of_a_kind_total"] == 3
    for name, value in bus.counters.items():
        assert found[f"tailrace_{name}_total"] >= value


async def test_what_alarms_are_set_on_is_there_before_it_happens(client: httpx.AsyncClient) -> None:
    found = await samples(client)
    assert {f"tailrace_{name}_total" for name in ALWAYS} <= found.keys()


async def test_a_name_that_prometheus_could_not_read_spoils_nothing(bus: Bus, client: httpx.AsyncClient) -> None:
    bus.counters.add("Not a name\n", 3)
    assert "tailrace_viewers/executions" in await samples(client)


async def test_viewers_are_told_by_what_they_watch(bus: Bus, client: httpx.AsyncClient) -> None:
    async with bus.execution("run"), client.stream("GET", "/v1/executions/run/events") as response:
        lines = response.aiter_lines()
        await caught_up(lines)
        found = await samples(client)
    assert found["tailrace_viewers/executions"] == 1
    assert found["tailrace_viewers/activity"] == 0
    assert found["tailrace_watched_executions"] == 1
    assert found["tailrace_draining"] == 0
    assert found["tailrace_tail/tracking"] == 1


async def test_the_process_and_its_loop_are_told(client: httpx.AsyncClient) -> None:
    found = await samples(client)
    assert found["process_resident_memory_bytes"] > 0
    assert "tailrace_loop_lag_seconds_count" in found


async def test_deliveries_are_counted_for_each_viewer_and_timed(bus: Bus, client: httpx.AsyncClient) -> None:
    async with bus.execution("run") as execution:
        url = "/v1/executions/run/events"
        async with client.stream("GET", url) as first, client.stream("GET", url) as second:
            streams = [first.aiter_lines(), second.aiter_lines()]
            for lines in streams:
                await caught_up(lines)
            before = await samples(client)
            for _ in range(3):
                await execution.append("custom.counted", {})
            for lines in streams:
                for _ in range(3):
                    await until_line(lines, "event: custom.counted")
            after = await samples(client)
    assert after["tailrace_deliveries_total"] - before["tailrace_deliveries_total"] == 6
    assert after["tailrace_append_seconds_count"] > before["tailrace_append_seconds_count"]
    assert after["tailrace_delivery_seconds_count"] > before["tailrace_delivery_seconds_count"]
    assert after["tailrace_delivery_seconds_sum"] - before["tailrace_delivery_seconds_sum"] < 10
