"""All of Tailrace on one machine, until it is interrupted or a part of it dies."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bus.embedded import start_embedded
from tailrace.children import Children, check_running
from tailrace.local import start_gateway, start_worker

LOOK_SECONDS = 0.5


async def stand_alone(directory: Path, *, host: str, port: int, allow_command: bool) -> None:
    """Never returns. Raises BusError, ChildError."""
    async with await start_embedded(str(directory)) as server:
        logs = server.directory / "logs"
        logs.mkdir(exist_ok=True)
        async with Children(logs) as children:
            start_worker(children, "worker", server.url, *(["--allow-command"] if allow_command else []))
            _, url = await start_gateway(children, "gateway", server.url, host=host, port=port)
            print(
                f"gateway  {url}\n"
                f"redis    {server.url}\n"
                f"data     {server.directory}\n"
                f"logs     {logs}\n"
                f"try      tailrace submit document path=$PWD/README.md --follow --gateway {url}\n"
                "Ctrl-C ends all of it.",
                flush=True,
            )
            while True:
                for child in children.all:
                    check_running(child)
                await asyncio.sleep(LOOK_SECONDS)
