"""Pipelines that come as JSON with the submission, and how their events are streamed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tailrace.bus import Bus, Entry
from tailrace.workers import Context, Pipeline, Registry, Step, Streaming
from tests.integration.workers.watching import types_of, watch, working
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

TEXT = "A river carries water from the mountains to the sea. The mill takes its power from the river.\n\n" * 30


async def run(bus: Bus, document: dict[str, Any]) -> list[Entry]:
    async with working(bus):
        return await watch(bus, await bus.submit("pipeline", document))


async def test_a_document_submitted_as_json_does_real_work(bus: Bus, tmp_path: Path) -> None:
    file = tmp_path / "mills.txt"
    file.write_text(TEXT)
    entries = await run(
        bus,
        {
            "name": "mills",
            "streaming": {"enabled": True, "emit_progress": True, "buffer_size": 500, "flush_interval_ms": 5},
            "steps": [
                {"name": "extract", "run": "document.extract"},
                {
                    "parallel": [
                        {"name": "chunk", "run": "document.chunk"},
                        {"name": "analyse", "run": "document.analyse"},
                    ]
                },
                {
                    "name": "long-enough",
                    "run": "check",
                    "options": {"condition": {"step": "analyse", "path": "statistics.words", "at_least": 100}},
                },
                {
                    "name": "summarize",
                    "run": "document.summarize",
                    "when": {"step": "long-enough", "path": "passed", "equals": True},
                },
            ],
            "input": {"path": str(file)},
        },
    )
    assert entries[-1].type == "execution.completed"
    result = entries[-1].data["result"]
    assert "river" in {keyword["phrase"] for keyword in result["keywords"]}
    assert "".join(entry.data["text"] for entry in entries if entry.type == "token") == result["summary"]
    assert [entry.data["passed"] for entry in entries if entry.type == "quality.check"] == [True]


@pytest.mark.parametrize(
    ("document", "reason", "sentence"),
    [
        ({}, "invalid_input", "input.name: Field required"),
        ({"name": "x", "steps": ["os.system"]}, "invalid_pipeline", "there is no step 'os.system' on this worker"),
        ({"name": "x", "steps": ["command"]}, "invalid_pipeline", "there is no step 'command' on this worker"),
        ({"name": "x", "steps": ["document.extract"]}, "invalid_input", "give one of 'path', 'content' and"),
    ],
)
async def test_a_document_that_cannot_be_used_ends_in_a_sentence_that_names_the_field(
    bus: Bus, document: dict[str, Any], reason: str, sentence: str
) -> None:
    entries = await run(bus, document)
    assert entries[-1].type == "execution.failed"
    assert entries[-1].data["reason"] == reason
    assert sentence in entries[-1].data["message"]


async def test_a_documents_timeout_ends_it(bus: Bus) -> None:
    steps = [{"name": "wait", "options": {"seconds": 60}}]
    entries = await run(bus, {"name": "slow", "steps": steps, "timeout_seconds": 0.1})
    assert entries[-1].type == "execution.timed_out"


async def talk(ctx: Context) -> None:
    for number in range(50):
        await ctx.progress(number / 50)
        await ctx.log(f"line {number}")


async def streamed(bus: Bus, **streaming: Any) -> list[Entry]:
    pipeline = Pipeline("p", (Step("talk", talk),), streaming=Streaming(**streaming))
    async with working(bus, Registry([pipeline])):
        return await watch(bus, await bus.submit("p", {}))


async def test_progress_can_be_left_out(bus: Bus) -> None:
    types = types_of(await streamed(bus, emit_progress=False))
    assert "step.progress" not in types
    assert types.count("log") == 50


async def test_streaming_can_be_turned_off_but_for_the_life_cycle(bus: Bus) -> None:
    entries = await streamed(bus, enabled=False)
    assert types_of(entries) == ["execution.queued", "execution.started", "execution.completed"]


async def test_a_question_is_asked_though_nothing_is_streamed(bus: Bus) -> None:
    async def asks(ctx: Context) -> Any:
        return await ctx.ask("Go?")

    pipeline = Pipeline("p", (Step("ask", asks),), streaming=Streaming(enabled=False))
    async with working(bus, Registry([pipeline])):
        execution_id = await bus.submit("p", {})
        await watch(bus, execution_id, until="review.required")
        await bus.control.signal(execution_id, "answer:ask.1", "yes")
        entries = await watch(bus, execution_id)
    assert entries[-1].data["result"] == "yes"


async def test_a_full_buffer_is_appended_at_once_however_long_others_are_waited_for(bus: Bus) -> None:
    """A hundred events through a buffer of five would otherwise take two hundred seconds."""
    started = time.monotonic()
    entries = await streamed(bus, buffer_size=5, flush_interval_ms=10_000)
    assert types_of(entries).count("log") == 50
    assert time.monotonic() - started < patient(20)


async def test_a_question_hurries_what_waits_for_others(bus: Bus) -> None:
    async def say(ctx: Context) -> None:
        await ctx.log("one")
        await ctx.ask("Go?")

    pipeline = Pipeline("p", (Step("say", say),), streaming=Streaming(flush_interval_ms=10_000))
    async with working(bus, Registry([pipeline])):
        execution_id = await bus.submit("p", {})
        started = time.monotonic()
        entries = await watch(bus, execution_id, until="review.required")
        await bus.control.cancel(execution_id, wait_seconds=30)
    assert types_of(entries)[-3:] == ["step.started", "log", "review.required"]
    assert time.monotonic() - started < stretched(9)
