"""Everything dies, freezes and leaves at random while viewers watch; afterwards each must have exactly the log.

``make chaos``, or ``python -m tests.chaos --seconds 120 --runs 100 --seed 7``. Exit code 1, with what differs, if not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tailrace.bus import Bus, BusError, BusSettings, open_bus
from tests.chaos.parts import LEASE_SECONDS, GatewayPart, Part, RedisPart, WorkerPart
from tests.e2e.followers import Follower
from tests.faults.workers.verdict import check_frames, check_run

GATEWAYS, WORKERS, VIEWERS_A_RUN = 2, 3, 3
PATIENCE_SECONDS = 120.0
# Two steps of it make a run of some six seconds.
GIVEN = {"events": 60, "pause_seconds": 0.05}


class Chaos:
    """One fault at a time, on parts that have come back from the one before."""

    def __init__(self, parts: dict[str, Part], chance: random.Random) -> None:
        self.faults: Counter[str] = Counter()
        self._parts = parts
        self._chance = chance

    async def reign(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self._chance.uniform(0.8, 2.5))
            name = self._chance.choice(sorted(self._parts))
            await self._strike(name, self._parts[name])

    async def _strike(self, name: str, part: Part) -> None:
        how = self._chance.choice(["killed", "killed", "frozen", "asked to leave"])
        self.faults[f"{name} {how}"] += 1
        if how == "frozen":
            part.freeze()
            await asyncio.sleep(self._chance.uniform(0.5, 2 * LEASE_SECONDS))
            part.thaw()
            return
        await asyncio.to_thread(part.kill if how == "killed" else part.leave)
        await asyncio.sleep(self._chance.uniform(0, 5))
        await asyncio.to_thread(part.begin)


async def submit(bus: Bus, run: str) -> None:
    """However often it takes: the same under the same id is one."""
    while True:
        try:
            await bus.submit("stubborn", GIVEN, execution_id=run)
        except BusError:
            await asyncio.sleep(0.2)
        else:
            return


async def judge(bus: Bus, run: str, viewers: Sequence[Follower]) -> list[str]:
    try:
        log = await check_run(bus, run)
        for viewer in viewers:
            assert viewer.ended is not None, "a viewer has not seen the end"
            assert not viewer.gaps, viewer.gaps
            check_frames(log, viewer.events)
    except AssertionError as error:
        return [f"{run}: {str(error)[:500]}"]
    return []


async def play(seconds: float, runs: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="tailrace-chaos-") as directory:
        redis = RedisPart(stack, Path(directory))
        url, prefix = redis.server.url, f"c{seed}"
        gateways = [GatewayPart(stack, url, prefix) for _ in range(GATEWAYS)]
        workers = [WorkerPart(stack, url, prefix) for _ in range(WORKERS)]
        parts: dict[str, Part] = {"redis": redis}
        parts |= {f"gateway {number}": part for number, part in enumerate(gateways)}
        parts |= {f"worker {number}": part for number, part in enumerate(workers)}
        chaos = Chaos(parts, chance)
        async with await open_bus(url, settings=BusSettings(prefix=prefix, lease_seconds=LEASE_SECONDS)) as bus:
            reigning = asyncio.create_task(chaos.reign(seconds))
            viewers: dict[str, list[Follower]] = {}
            watching: list[asyncio.Task[None]] = []
            for number in range(runs):
                run = f"run-{number}"
                await submit(bus, run)
                urls = [gateway.url for gateway in gateways]
                viewers[run] = [
                    Follower(run, urls, random.Random(f"{seed} {run} {viewer}"), lambda _: None)
                    for viewer in range(VIEWERS_A_RUN)
                ]
                watching += [asyncio.create_task(viewer.follow()) for viewer in viewers[run]]
                await asyncio.sleep(seconds / 2 / runs)
                print(f"\r{number + 1} of {runs} runs submitted", end="", file=sys.stderr, flush=True)
            await reigning
            _, late = await asyncio.wait(watching, timeout=PATIENCE_SECONDS)
            for task in late:
                task.cancel()
            results = await asyncio.gather(*watching, return_exceptions=True)
            defects = [str(each) for each in results if isinstance(each, Exception)]
            for run, copies in viewers.items():
                defects += await judge(bus, run, copies)
            connections = sum(viewer.connections for copies in viewers.values() for viewer in copies)
    faults = ", ".join(f"{name} {count}" for name, count in sorted(chaos.faults.items()))
    print(f"\nseed {seed}: {runs} runs, {len(watching)} viewers over {connections} connections; {faults}")
    return defects


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    defects = asyncio.run(play(options.seconds, options.runs, options.seed))
    for defect in defects:
        print(f"DEFECT {defect}")
    print(f"{len(defects)} defects")
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main())
