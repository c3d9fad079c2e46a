"""A job of RQ that can be watched while it runs. RQ decides when and where; Tailrace tells how it goes.

A job is a plain function, so it opens a loop of its own. Its execution is named after the job and its try: one that
has ended is never begun again, and so whoever watches sees for each try how it ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from rq import get_current_job

from tailrace import open_bus


def execution_id_of(job_id: str, tries_before: int = 0) -> str:
    return f"{job_id}-{tries_before}"


def count_words(path: str) -> dict[str, int]:
    """The ten most frequent words of a text file."""
    job = get_current_job()
    if job is None:
        raise RuntimeError("count_words is a job: enqueue it")
    return asyncio.run(_count(execution_id_of(job.id, job.number_of_retries or 0), Path(path)))


async def _count(execution_id: str, path: Path) -> dict[str, int]:
    async with await open_bus() as bus, bus.execution(execution_id, pipeline="count-words") as execution:
        lines = path.read_text(encoding="utf-8").splitlines()
        words: Counter[str] = Counter()
        for number, line in enumerate(lines, 1):
            words.update(line.lower().split())
            await execution.emit("step.progress", {"progress": number / len(lines)}, step="count")
        execution.result = frequent = dict(words.most_common(10))
    return frequent
