"""A plain script whose work can be watched, paused and cancelled from any host: no worker, no queue.

    python digest.py FILE... [--id NAME] [--slowly SECONDS]

Where Redis is stands in TAILRACE_REDIS_URL.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from pathlib import Path

from tailrace import BusError, open_bus


async def digest(paths: list[Path], execution_id: str | None, slowly_seconds: float) -> dict[str, str]:
    async with await open_bus() as bus, bus.execution(execution_id, pipeline="digest") as execution:
        print(f"running as {execution.id}", flush=True)
        sums = {}
        for done, path in enumerate(paths, 1):
            await execution.emit("step.started", step=path.name)
            sums[path.name] = await asyncio.to_thread(sum_of, path)
            await execution.emit("step.completed", {"sha256": sums[path.name]}, step=path.name)
            await execution.emit("step.progress", {"progress": done / len(paths)}, step="digest")
            await asyncio.sleep(slowly_seconds)
        execution.result = sums
    return sums


def sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description="Sum up files, for all to see")
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--id", help="of the execution; a new one if left out")
    parser.add_argument("--slowly", type=float, default=0.0, metavar="SECONDS", help="rest so long after each file")
    given = parser.parse_args()
    try:
        for name, digest_of_it in asyncio.run(digest(given.paths, given.id, given.slowly)).items():
            print(f"{digest_of_it}  {name}")
    except (BusError, OSError) as error:
        print(f"digest: {error}", file=sys.stderr)
        return 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("digest: cancelled", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
