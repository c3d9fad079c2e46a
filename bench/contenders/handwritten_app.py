"""The endpoint one writes by hand: XREAD BLOCK for every viewer, sent by sse-starlette.

Done with care, as a good team would: the cursor is honoured, the pool is shared and large enough, reads
come in batches, JSON is orjson's. It proves no continuity and knows no ending.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
import redis.asyncio
from fastapi import FastAPI, Header
from sse_starlette import EventSourceResponse, ServerSentEvent

app = FastAPI()
# redis-py 8 gives up on a socket after 5 s by default, which would end every BLOCK that waits longer.
client = redis.asyncio.Redis.from_url(os.environ["BENCH_REDIS_URL"], max_connections=12_000, socket_timeout=None)


async def follow(execution_id: str, cursor: str) -> AsyncIterator[ServerSentEvent]:
    key = f"tr:{{{execution_id}}}:log"
    while True:
        reply: Any = await client.xread({key: cursor}, count=200, block=15_000)
        for entries in reply.values() if isinstance(reply, dict) else (read[1] for read in reply or ()):
            for entry_id, fields in entries:
                cursor = entry_id.decode()
                event_type = fields[b"t"].decode()
                shown = {
                    "type": event_type,
                    "execution_id": execution_id,
                    "ts": fields[b"ts"].decode(),
                    "data": orjson.loads(fields[b"d"]),
                }
                yield ServerSentEvent(orjson.dumps(shown).decode(), event=event_type, id=cursor, sep="\n")


@app.get("/events/{execution_id}")
async def events(execution_id: str, last_event_id: Annotated[str, Header()] = "0") -> EventSourceResponse:
    return EventSourceResponse(follow(execution_id, last_event_id))


@app.get("/ready")
async def ready() -> str:
    await client.ping()
    return "ready"
