"""What a gateway really sends, in every situation that the documentation shows a frame of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import httpx

from tailrace.bus import Bus
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import live_gateway
from tests.patience import patient

SECONDS: Final = 30.0
NDJSON: Final = {"Accept": "application/x-ndjson"}
EMPTY_A_KEY: Final = "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], 'no log')"

# What makes one kind of frame: the fields of SSE that it has, its event's name, and the members of its data.
Shape = tuple[frozenset[str], str, frozenset[str]]


def shapes(frames: Iterable[str]) -> Iterator[Shape]:
    """The kinds of Server-Sent Events in a text; entries are alike whatever their own type is."""
    for frame in "\n".join(frames).replace("\n\n\n", "\n\n").strip("\n").split("\n\n"):
        if any(line.startswith(":") for line in frame.splitlines()):
            # A heartbeat, which ends no frame.
            yield frozenset({""}), "", frozenset()
        lines = [line.partition(":") for line in frame.splitlines() if line and not line.startswith(":")]
        if not lines:
            continue
        fields = {name: value.strip() for name, _, value in lines}
        data = json.loads(fields["data"]) if "data" in fields else {}
        name = fields.get("event", data.get("type", ""))
        yield frozenset(fields), name if name.startswith("stream.") else "", frozenset(data)


def line_shapes(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The kinds of NDJSON lines in a text: control frames have their name, entries none."""
    for line in filter(None, text.splitlines()):
        data = json.loads(line)
        name = data["type"]
        yield name if name.startswith("stream.") else "", frozenset(data)


def members(value: Any) -> Any:
    """A JSON document without its values; of a list, what all its items have."""
    if isinstance(value, dict):
        return {name: members(part) for name, part in value.items() if name != "data"}
    if isinstance(value, list):
        return members(value[0]) if value else None
    return None


class Reader:
    """Collects one stream in a task of its own."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.text = ""
        self._url = url
        self._headers = dict(headers or {})
        self._more = asyncio.Condition()
        self.task = asyncio.create_task(self._read())

    async def has(self, words: str) -> None:
        async with asyncio.timeout(patient(SECONDS)), self._more:
            await self._more.wait_for(lambda: words in self.text)

    async def ended(self) -> str:
        async with asyncio.timeout(patient(SECONDS)):
            await self.task
        return self.text

    async def _read(self) -> None:
        async with (
            httpx.AsyncClient(timeout=patient(SECONDS)) as client,
            client.stream("GET", self._url, headers=self._headers) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            async for piece in answer.aiter_text():
                async with self._more:
                    self.text += piece
                    self._more.notify_all()


async def every_frame(bus: Bus) -> tuple[list[str], str]:
    """Streams that together have every kind of frame, as SSE, and the same as NDJSON."""
    settings = read_settings(drain_seconds=0, heartbeat_seconds=0.1)
    async with live_gateway(bus, settings) as gateway:
        executions = f"{gateway}/v1/executions"
        async with bus.execution("whole") as execution:
            watched = Reader(f"{executions}/whole/events")
            lines = Reader(f"{executions}/whole/events?types=step.*", NDJSON)
            skipping = Reader(f"{executions}/whole/events?types=step.*")
            for reader in (watched, lines, skipping):
                await reader.has("stream.caught_up")
            await execution.emit("step.progress", {"progress": 0.4}, step="fetch", meta={"trace": "a"})
            await bus.commands.command("XADD", bus.keys.log("whole"), "*", "t", "my.event", "d", "no JSON")
            await execution.append("custom.last")
            await watched.has(": hb")
        sse = [await watched.ended(), await Reader(f"{executions}/whole/events", {"Last-Event-ID": "1-5"}).ended()]
        sse.append(await skipping.ended())
        ndjson = (
            await lines.ended() + await Reader(f"{executions}/whole/events", {**NDJSON, "Last-Event-ID": "1-5"}).ended()
        )

        await _begin(bus, "broken")
        broken = Reader(f"{executions}/broken/events")
        await broken.has("stream.caught_up")
        await bus.commands.command("EVAL", EMPTY_A_KEY, 1, bus.keys.log("broken"))
        sse.append(await broken.ended())

        await _begin(bus, "unended")
        sent_away = Reader(f"{executions}/unended/events?events=message")
        named = Reader(f"{executions}/unended/events")
        for reader in (sent_away, named):
            await reader.has("stream.caught_up")
    return [*sse, await sent_away.ended(), await named.ended()], ndjson


async def _begin(bus: Bus, execution_id: str) -> None:
    publisher = bus.publisher(execution_id)
    await publisher.append("custom.first")
    await publisher.aclose()
