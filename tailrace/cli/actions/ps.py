"""Show which executions there are: once, or again and again."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from rich.live import Live
from rich.table import Table

from tailrace.bus import BusUnavailableError
from tailrace.cli.client.executions import LIVE, ExecutionFilter, open_executions
from tailrace.cli.errors import GatewayRequestError
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.text.execution_table import table_of
from tailrace.cli.text.lines import json_line
from tailrace.cli.text.safe import one_line
from tailrace.cli.text.terminal import console

REFRESH_SECONDS: Final = 2.0


async def list_executions(
    gateways: Sequence[str], redis_url: str | None, wanted: ExecutionFilter, *, as_json: bool
) -> None:
    """Raises BusError, GatewayRequestError."""
    async with open_executions(gateways, redis_url) as source:
        page = await source.read(wanted)
    if as_json:
        for item in page.items:
            print(json_line(item))
        return
    console().print(table_of(page.items, time.time()))
    if not page.items and wanted.statuses == LIVE:
        print("tailrace: no execution is queued or running; --all also shows those that have ended", file=sys.stderr)
    if page.more:
        print(f"tailrace: shown are the newest {len(page.items)}; --limit shows more", file=sys.stderr)


async def watch_executions(gateways: Sequence[str], redis_url: str | None, wanted: ExecutionFilter) -> None:
    """Until interrupted, also while nothing answers. The first look raises BusError, GatewayRequestError."""
    screen = console()
    async with open_executions(gateways, redis_url) as source:
        items, trouble = (await source.read(wanted)).items, ""
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
                    items, trouble = (await source.read(wanted)).items, ""
                except (BusUnavailableError, GatewayRequestError) as error:
                    if isinstance(error, GatewayRequestError) and error.code is not ExitCode.GATEWAY:
                        raise
                    # Those are shown that were last seen, and that this is so.
                    trouble = one_line(f"not up to date: {error}")
