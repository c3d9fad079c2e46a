"""What clients leave behind, and what they do to each other: ``make soak``, or ``python -m tests.soak viewers``.

Prints a line for each kind. Exit code 1 where a bound is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime

from tests.soak import floods, viewers
from tests.soak.gateway import subject

MOST_GROWTH = 0.05
# CPU is counted in hundredths of a second, and the machine is not ours alone.
MOST_DEARER = 1.25


async def come_and_go(count: int, kinds: list[viewers.Kind]) -> bool:
    well = True
    for kind in kinds:
        async with subject() as gateway:
            left = await viewers.measure(gateway, kind, count)
        print(left, flush=True)
        well = well and left.grown <= MOST_GROWTH and left.us_after <= left.us_before * MOST_DEARER
    return well


async def flood(seconds: float, kinds: list[str]) -> bool:
    well = True
    async with subject() as gateway:
        for kind in kinds:
            suffered = await floods.measure(gateway, kind, seconds)
            print(suffered, flush=True)
            well = well and suffered.worst_ms <= floods.BUDGET_MS
    return well


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("what", choices=["viewers", "floods"])
    parser.add_argument("--viewers", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each flood")
    parser.add_argument("--only", action="append", default=[], metavar="KIND")
    options = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", flush=True)
    if options.what == "viewers":
        well = asyncio.run(come_and_go(options.viewers, options.only or list(viewers.KINDS)))
    else:
        well = asyncio.run(flood(options.seconds, options.only or list(floods.KINDS)))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
