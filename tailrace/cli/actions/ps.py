"""Show which executions there are: once, or again and again."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from rich.live import Live
from rich.table import Table

from tailrace.bus import BusUnavailableError
from tailrace.cli.client.executions import LIVE, ExecutionFilter, open_roster
from tailrace.cli.errors import GatewayRequestError
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.text.execution_table import table_of
from tailrace.cli.text.safe import one_line
from tailrace.cli.text.terminal import console

REFRESH_SECONDS: Final = 2.0


async def call_roll(gateways: Sequence[str], redis_url: str | None, wish: ExecutionFilter, *, as_json: bool) -> None:
    """Raises BusError, GatewayRequestError."""
    async with open_roster(gateways, redis_url) as roster:
        roll = await roster.read(wish)
    if as_json:
        for item in roll.items:
            print(json.dumps(item, ensure_ascii=False, separators=(",", ":")))
        return
    console().print(table_of(roll.items, time.time()))
    if not roll.items and wish.statuses == LIVE:
        print("tailrace: nothing is queued or runs; --all shows what has ended, too", file=sys.stderr)
    if roll.more:
        print(f"tailrace: these are the newest {len(roll.items)}; --limit shows more", file=sys.stderr)


async def watch_roll(gateways: Sequence[str], redis_url: str | None, wish: ExecutionFilter) -> None:
    """Until interrupted, also while nothing answers. The first look raises BusError, GatewayRequestError."""
    screen = console()
    async with open_roster(gateways, redis_url) as roster:
        items, trouble = (await roster.read(wish)).items, ""
        with ExitStack() as stack:
            draw: Callable[[Table], None] = screen.print
            if screen.is_terminal:
                live = stack.enter_context(Live(console=screen, auto_refresh=False))
                draw = partial(live.update, refresh=True)
            while True:
                table = table_of(items, time.time())
                table.caption, table.caption_justify = trouble or None, "left"
                draw(table)
                await asyncio.sleep(REFRESH_SECONDS)
                try:
                    items, trouble = (await roster.read(wish)).items, ""
                except (BusUnavailableError, GatewayRequestError) as error:
                    if isinstance(error, GatewayRequestError) and error.code is not ExitCode.GATEWAY:
                        raise
                    # Those are shown that were last seen, and that this is so.
                    trouble = one_line(f"not up to date: {error}")
