"""Graphs of LangGraph as events, on workers that are killed."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph

from tailrace import Bus, BusSettings, Context, Entry, InvalidInputError, Pipeline, Step, open_bus, run_pipeline
from tailrace.workers.adapters.langgraph import stream_graph
from tests.integration.adapters import graphs
from tests.integration.cli.processes import TAILRACE
from tests.integration.gateway.live import live_gateway
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


async def streamed(server_url: str, prefix: str, graph: Any, **options: Any) -> list[Entry]:
    async def step(ctx: Context) -> Any:
        return await stream_graph(ctx, graph, {"notes": ["given"]}, **options)

    pipeline = Pipeline("graph", (Step("graph", step),))
    entries = []
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus, asyncio.timeout(patient(20)):
        with suppress(ValueError, TypeError):
            async with bus.execution("one", pipeline="graph") as execution:
                execution.result = await run_pipeline(bus, execution, pipeline, {})
        async for item in bus.follow("one"):
            assert isinstance(item, Entry)
            entries.append(item)
    return entries


async def test_every_mode_is_an_event_of_its_mode_with_values_that_json_can_carry(server_url: str, prefix: str) -> None:
    modes = ["values", "updates", "custom", "debug", "tasks", "checkpoints"]
    graph = graphs.chain(first=graphs.first, inner=graphs.chain(deep=graphs.first))
    entries = await streamed(server_url, prefix, graph, stream_mode=modes, checkpointer=InMemorySaver())

    told = [each for each in entries if each.type.startswith("graph.")]
    assert {each.type for each in told} == {f"graph.{mode}" for mode in modes}
    assert all(each.meta["mode"] == each.type.removeprefix("graph.") for each in told)
    assert [each.data for each in told if each.type == "graph.custom"] == [{"says": "first"}] * 2
    inner = [each.meta["namespace"] for each in told if each.type == "graph.custom" and "namespace" in each.meta]
    assert len(inner) == 1
    assert inner[0][0].startswith("inner:")
    update = next(each.data for each in told if each.type == "graph.updates")
    finding, score, message = update["first"]["notes"]
    assert (finding, score) == ({"probe": "sqli"}, {"value": 0.5})
    assert (message["type"], message["content"], message["id"]) == ("ai", "hello", "m1")
    assert entries[-1].data["result"]["notes"][:2] == ["given", {"probe": "sqli"}]


async def test_message_chunks_become_tokens_that_name_message_node_and_tags(server_url: str, prefix: str) -> None:
    entries = await streamed(server_url, prefix, graphs.chain(talk=graphs.talk), stream_mode="messages")

    tokens = [each for each in entries if each.type == "token"]
    assert "".join(each.data["text"] for each in tokens) == "one two"
    about = tokens[0].meta
    assert (about["mode"], about["node"], about["tags"]) == ("messages", "talk", ["spoken"])
    assert about["message"]
    assert all(each.meta == about for each in tokens)
    assert not [each for each in entries if each.type == "graph.values"]


async def test_a_node_that_raises_is_named(server_url: str, prefix: str) -> None:
    entries = await streamed(server_url, prefix, graphs.chain(first=graphs.first, broken=graphs.broken))

    failed = next(each for each in entries if each.type == "graph.failed")
    assert failed.data == {"node": "broken", "error": "ValueError", "message": "the target is gone"}
    assert (entries[-1].type, entries[-1].data["message"]) == ("execution.failed", "the target is gone")


@pytest.mark.parametrize("mode", ["everything", [], ["custom", "everything"]])
async def test_an_unknown_stream_mode_is_refused_by_name(server_url: str, prefix: str, mode: Any) -> None:
    entries = await streamed(server_url, prefix, graphs.chain(first=graphs.first), stream_mode=mode)

    assert entries[-1].type == "execution.failed"
    assert entries[-1].data["message"].startswith("stream_mode: ")
    assert "use one or more of values, updates, custom" in entries[-1].data["message"]
    assert not [each for each in entries if each.type.startswith("graph.")]


async def test_one_viewer_of_a_graph_gets_its_values_and_another_what_its_nodes_write(
    server_url: str, prefix: str
) -> None:
    await streamed(server_url, prefix, graphs.chain(first=graphs.first), stream_mode=["values", "custom"])

    shown: dict[str, list[str]] = {}
    async with (
        await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus,
        live_gateway(bus) as url,
        httpx.AsyncClient(timeout=patient(20), headers={"Accept": "application/x-ndjson"}) as client,
    ):
        for mode in ("values", "custom"):
            answer = await client.get(f"{url}/v1/executions/one/events", params={"mode": mode})
            types = [json.loads(line)["type"] for line in answer.text.splitlines()]
            shown[mode] = [each for each in types if each.startswith("graph.")]
            assert "execution.completed" in types
    assert shown == {"values": ["graph.values"] * 2, "custom": ["graph.custom"]}


@pytest.mark.parametrize(
    ("graph", "checkpointer", "message"),
    [
        (StateGraph(graphs.Notes), None, "graph is a StateGraph, not a compiled graph"),
        (graphs.chain(first=graphs.first), "graphs.sqlite", "checkpointer is a str: give a checkpointer or a"),
        (graphs.chain(first=graphs.first), Path("/nowhere/graphs.sqlite"), "checkpointer: '/nowhere/graphs.sqlite'"),
    ],
)
async def test_a_graph_or_a_checkpointer_that_cannot_be_used_is_refused_with_the_cure(
    server_url: str, prefix: str, graph: Any, checkpointer: Any, message: str
) -> None:
    entries = await streamed(server_url, prefix, graph, checkpointer=checkpointer)

    assert entries[-1].type == "execution.failed"
    assert entries[-1].data["message"].startswith(message)


async def test_a_node_outside_a_stream_writes_nowhere() -> None:
    assert len((await graphs.first({"notes": []}))["notes"]) == 3
    assert len((await graphs.chain(first=graphs.first).ainvoke({"notes": []}))["notes"]) == 3


async def test_an_interrupt_without_a_checkpointer_is_an_error_with_its_cure(server_url: str, prefix: str) -> None:
    entries = await streamed(server_url, prefix, graphs.chain(review=graphs.review))

    assert entries[-1].type == "execution.failed"
    assert "has no checkpointer" in entries[-1].data["message"]


class Workers:
    def __init__(self, server: RunningServer, directory: Path) -> None:
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")} | {
            "TAILRACE_TEST_SESSION": os.environ["TAILRACE_TEST_SESSION"],
            "TAILRACE_REDIS_URL": server.url,
            "GRAPH_DIRECTORY": str(directory),
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = [*TAILRACE, "worker", "--pipelines", "tests.integration.adapters.graphs:registry"]
        environment = {**self._environment, "PYTHONPATH": str(Path(__file__).parents[3])}
        self.started.append(subprocess.Popen(command, env=environment))
        return self.started[-1]


@contextmanager
def working(server: RunningServer, directory: Path) -> Iterator[Workers]:
    workers = Workers(server, directory)
    try:
        yield workers
    finally:
        for process in workers.started:
            process.kill()
            process.wait()


@pytest.fixture
async def bus(fresh_server: RunningServer) -> AsyncGenerator[Bus, None]:
    async with await open_bus(fresh_server.url) as opened:
        yield opened


async def until(bus: Bus, execution: str, event_type: str) -> Entry:
    async for item in bus.follow(execution, wait=patient(20)):
        assert isinstance(item, Entry)
        if item.type == event_type:
            return item
    raise AssertionError(f"there was no {event_type}")


async def test_a_killed_graph_goes_on_from_its_checkpoint_on_another_worker(
    bus: Bus, fresh_server: RunningServer, tmp_path: Path
) -> None:
    with working(fresh_server, tmp_path) as workers:
        async with asyncio.timeout(patient(40)):
            first = workers.start()
            handle = await bus.submit("waiting", {})
            await until(bus, handle.id, "graph.custom")
            first.kill()
            first.wait()
            workers.start()
            (tmp_path / "go").touch()
            assert await handle.result() == {"notes": ["begun", "waited"]}
    assert (tmp_path / "marks").read_text().split() == ["begin", "wait", "wait"]


async def test_a_cancelled_graph_stops_and_another_execution_goes_on_from_its_checkpoint(
    bus: Bus, fresh_server: RunningServer, tmp_path: Path
) -> None:
    with working(fresh_server, tmp_path) as workers:
        async with asyncio.timeout(patient(40)):
            first = workers.start()
            handle = await bus.submit("waiting", {})
            await until(bus, handle.id, "graph.custom")
            await bus.control.cancel(handle.id)
            ending = await until(bus, handle.id, "execution.cancelled")
            assert "forced" not in ending.data
            first.kill()
            first.wait()
            workers.start()
            (tmp_path / "go").touch()
            again = await bus.submit("waiting", {"thread": handle.id})
            assert await again.result() == {"notes": ["begun", "waited"]}
    assert (tmp_path / "marks").read_text().split() == ["begin", "wait", "wait"]


async def test_a_cancelled_graph_leaves_its_checkpoints_to_others_at_once(
    bus: Bus, fresh_server: RunningServer, tmp_path: Path
) -> None:
    with working(fresh_server, tmp_path) as workers:
        async with asyncio.timeout(patient(60)):
            workers.start()
            # Without the wait for writes about one cancel in five left the file locked, so one proves little.
            for _ in range(20):
                handle = await bus.submit("waiting", {})
                await until(bus, handle.id, "graph.custom")
                await bus.control.cancel(handle.id)
                await until(bus, handle.id, "execution.cancelled")
                with closing(sqlite3.connect(tmp_path / "graphs.sqlite", timeout=0)) as other:
                    other.execute("BEGIN IMMEDIATE")
                    other.rollback()


async def test_interrupts_are_asked_once_and_resumed_by_their_answers_on_another_worker(
    bus: Bus, fresh_server: RunningServer, tmp_path: Path
) -> None:
    asked: list[Any] = []
    with working(fresh_server, tmp_path) as workers:
        async with asyncio.timeout(patient(40)):
            worker = workers.start()
            handle = await bus.submit("reviewed", {})
            async for item in bus.follow(handle.id, wait=patient(20)):
                assert isinstance(item, Entry)
                if item.type == "review.required":
                    asked.append(item.data["question"])
                    worker.kill()
                    worker.wait()
                    worker = workers.start()
                    await bus.control.signal(handle.id, f"answer:{item.data['ask']}", f"yes {len(asked)}")
            assert await handle.result() == {"notes": ["begun", "yes 1", "yes 2"]}
    assert asked == [{"question": "really?"}, {"question": "sure?"}]
    assert (tmp_path / "marks").read_text().split() == ["begin"]


async def test_a_thread_that_is_not_there_cannot_be_gone_on_with(
    bus: Bus, fresh_server: RunningServer, tmp_path: Path
) -> None:
    with working(fresh_server, tmp_path) as workers:
        async with asyncio.timeout(patient(40)):
            workers.start()
            handle = await bus.submit("waiting", {"thread": "unknown"})
            ending = await until(bus, handle.id, "execution.failed")
    assert ending.data["message"] == "input: is None, and thread 'unknown' is new"
    assert issubclass(InvalidInputError, ValueError)
