"""A worker's own /metrics."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tailrace.bus import Bus, Entry, InvalidInputError
from tailrace.workers import Context, Outputs, Pipeline, Registry, Step, Worker, WorkerSettings, built_in
from tailrace.workers.builtin.document.parsers import Limits
from tailrace.workers.definition.answer_check import ANSWER_CHECKS
from tailrace.workers.worker.metrics import ALWAYS, serving_metrics
from tests.integration.workers.watching import watch
from tests.patience import patient

pytestmark = pytest.mark.anyio


LIMITS: Final = Limits(seconds=1.0, memory_bytes=400 * 1024 * 1024)


async def samples(url: str) -> dict[str, float]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {sample.name: sample.value for family in families for sample in family.samples if "le" not in sample.labels}


async def test_a_worker_tells_what_it_runs_and_how_long_its_appends_take(bus: Bus) -> None:
    told: dict[str, float] = {}

    async def look(ctx: Context, _outputs: Outputs) -> None:
        await ctx.log("here")
        told.update(await samples(url))

    worker = Worker(bus, Registry([Pipeline("look", (Step("look", look),))]), WorkerSettings(metrics_port=0))
    async with serving_metrics(bus, worker) as served:
        assert served is not None
        url = served
        assert {f"tailrace_{name}_total" for name in ALWAYS} <= (await samples(url)).keys()
        running = asyncio.create_task(worker.run())
        await watch(bus, await bus.submit("look", {}))
        worker.stop()
        await running
        after = await samples(url)
    assert told["tailrace_worker_running"] == 1
    assert told["tailrace_worker_concurrency"] == 8
    assert after["tailrace_worker_running"] == 0
    assert after["tailrace_jobs_taken_total"] == 1
    assert after["tailrace_append_seconds_count"] >= 2
    assert 0 < after["tailrace_append_seconds_sum"] < 60
    with pytest.raises(httpx.ConnectError):
        await samples(url)


async def test_a_worker_whose_loop_is_blocked_still_answers(bus: Bus) -> None:
    worker = Worker(bus, Registry([]), WorkerSettings(metrics_port=0))
    async with serving_metrics(bus, worker) as url:
        assert url is not None
        # The loop has no turn until the answer is here.
        assert httpx.get(url, timeout=patient(30)).status_code == 200  # noqa: ASYNC210


async def test_without_a_port_nothing_listens(bus: Bus) -> None:
    async with serving_metrics(bus, Worker(bus, Registry([]), WorkerSettings())) as url:
        assert url is None


async def test_a_port_that_is_taken_is_named(bus: Bus) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        worker = Worker(bus, Registry([]), WorkerSettings(metrics_port=port))
        with pytest.raises(InvalidInputError, match=rf"metrics_port: cannot listen on 127.0.0.1:{port} \(.*in use"):
            async with serving_metrics(bus, worker):
                raise AssertionError("entered")


async def test_attack_16_what_met_a_limit_is_counted(bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ANSWER_CHECKS, "processor_seconds", 1)

    async def ask(ctx: Context, _outputs: Outputs) -> Any:
        return await ctx.ask("which?", {"items": {"pattern": "^(a+)+$"}}, key="which")

    (tmp_path / "comment.md").write_bytes(b"x <!-- " + b"y" * 20_000_000)
    registry = built_in(allow_command=False, document_limits=LIMITS, document_roots=[tmp_path])
    registry = Registry([registry.get("document"), Pipeline("ask", (Step("ask", ask),))])
    worker = Worker(bus, registry, WorkerSettings(metrics_port=0))
    async with serving_metrics(bus, worker) as url:
        assert url is not None
        before = await samples(url)
        running = asyncio.create_task(worker.run())
        question = await bus.submit("ask", {})
        document = asyncio.create_task(watch(bus, await bus.submit("document", {"path": str(tmp_path / "comment.md")})))
        async with asyncio.timeout(patient(20)):
            async for asked in bus.follow(question):
                if isinstance(asked, Entry) and asked.type == "review.required":
                    name = f"answer:{asked.data['ask']}"
                    await bus.control.signal(question, name, ["a" * 200 + "!"], wait_seconds=patient(10))
                    await bus.control.signal(question, name, [], wait_seconds=patient(10))
            await document
        worker.stop()
        await running
        after = await samples(url)
    for name in ("tailrace_answer_checks_given_up_total", "tailrace_documents_given_up_total"):
        assert after[name] == before[name] + 1, name
