"""All of Tailrace on one machine, until it is interrupted or a part of it dies."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bus.embedded import EmbeddedServer, start_embedded
from tailrace.children import Children, check_running
from tailrace.errors import CommandError
from tailrace.exit_codes import ExitCode
from tailrace.local import start_gateway, start_worker

LOOK_SECONDS: Final = 0.5
# What gateways and workers leave their viewers and executions by default, and a little.
STOP_SECONDS: Final = 15.0
# What a worker needs to kill a program that does not heed SIGTERM, and a little.
ORPHAN_SECONDS: Final = 6.0


async def stand_alone(directory: Path, *, host: str, port: int, allow_command: bool) -> None:
    """Return when interrupted, which is how it should end. Raises BusError, ChildError, CommandError."""
    async with await start_embedded(str(directory)) as server:
        logs = server.directory / "logs"
        logs.mkdir(exist_ok=True)
        with _alone(server):
            async with Children(logs, stop_seconds=STOP_SECONDS, orphan_seconds=ORPHAN_SECONDS) as children:
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
                with contextlib.suppress(asyncio.CancelledError):
                    await _watch(children)


async def _watch(children: Children) -> None:
    while True:
        for child in children.all:
            check_running(child)
        await asyncio.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def _alone(server: EmbeddedServer) -> Iterator[None]:
    """One `up` a directory: a second one would write over the logs of the first."""
    with (server.directory / "up.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"another 'tailrace up' runs in {server.directory}; choose another directory with --dir",
                ExitCode.CONFLICT,
            ) from None
        yield
