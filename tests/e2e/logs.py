"""What stands in Redis, read past everything that is being tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from tailrace.bus import Bus
from tailrace.bus.log.publisher import Publisher
from tests.e2e.sse_frames import Frame


async def append_events(bus: Bus, run: str, count: int, *, first: int = 0, kind: str = "custom.counted") -> list[str]:
    """Append ``{"k": first}``, …; gives the ids of the whole log."""
    publisher = bus.publisher(run)
    try:
        await emit_events(publisher, count, first=first, kind=kind)
    finally:
        await publisher.aclose()
    return await log_ids(bus, run)


async def emit_events(publisher: Publisher, count: int, *, first: int = 0, kind: str = "custom.counted") -> None:
    for k in range(first, first + count):
        await publisher.emit(kind, {"k": k})


async def log_ids(bus: Bus, run: str) -> list[str]:
    return [entry_id.decode() for entry_id, _ in await bus.commands.command("XRANGE", bus.keys.log(run), "-", "+")]


async def log_data(bus: Bus, run: str) -> list[Any]:
    raw = await bus.commands.command("XRANGE", bus.keys.log(run), "-", "+")
    return [orjson.loads(dict(zip(fields[::2], fields[1::2], strict=True)).get(b"d", b"null")) for _, fields in raw]


def ids_of(frames: Sequence[Frame]) -> list[str]:
    """Of the events; skips and control frames left out."""
    return [frame.id for frame in frames if frame.id is not None and not frame.is_control]


def names_of(frames: Sequence[Frame]) -> list[str | None]:
    return [frame.name for frame in frames]


def controls_of(frames: Sequence[Frame], name: str) -> list[Frame]:
    return [frame for frame in frames if frame.name == name]
