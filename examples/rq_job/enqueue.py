"""Enqueue a job, and watch it to its end.

    python enqueue.py FILE

Where Redis is stands in TAILRACE_REDIS_URL; a worker is started with: rq worker --url "$TAILRACE_REDIS_URL" words
"""

from __future__ import annotations

import asyncio
import os
import sys

from jobs import count_words, execution_id_of
from redis import Redis
from rq import Queue

from tailrace import Entry, open_bus


async def watch(execution_id: str) -> None:
    async with await open_bus() as bus:
        async for item in bus.follow(execution_id):
            if isinstance(item, Entry):
                print(item.type, item.data, flush=True)


def main() -> None:
    with Redis.from_url(os.environ["TAILRACE_REDIS_URL"]) as redis:
        job = Queue("words", connection=redis).enqueue(count_words, sys.argv[1])
    asyncio.run(watch(execution_id_of(job.id)))


if __name__ == "__main__":
    main()
