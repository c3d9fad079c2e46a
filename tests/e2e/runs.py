"""What tests do with a whole run: end it, and watch it to its end."""

from __future__ import annotations

from tailrace.bus import Bus
from tests.e2e.sse_client import open_stream
from tests.e2e.sse_frames import Frame


async def end(bus: Bus, run: str) -> str:
    publisher = bus.publisher(run)
    cursor = await publisher.append("execution.completed", {"result": None})
    await publisher.aclose()
    return str(cursor)


async def watch_to_the_end(url: str, run: str, after: str | None = None, **query: str) -> list[Frame]:
    async with open_stream(url, run, after=after, query=query) as stream:
        assert stream.status == 200, await stream.body()
        return await stream.rest()
