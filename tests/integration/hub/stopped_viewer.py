"""Viewers in a process of their own, to be stopped: ``python -m tests.integration.hub.stopped_viewer URL RUN COUNT``.

Says ``watching`` once all have caught up, then reads on for ever.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from tests.e2e.sse_client import open_stream


async def watch(url: str, run: str, count: int) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_stream(url, run)) for _ in range(count)]
        for stream in streams:
            await stream.until("stream.caught_up")
        sys.stdout.write("watching\n")
        sys.stdout.flush()
        await asyncio.gather(*(stream.rest(seconds=3600) for stream in streams))


if __name__ == "__main__":
    asyncio.run(watch(sys.argv[1], sys.argv[2], int(sys.argv[3])))
