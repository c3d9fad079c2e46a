"""All of Tailrace on one machine, until it is interrupted; a part that dies is started again."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import httpx

from tailrace.bus.embedded import EmbeddedServer, start_embedded
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.processes.children import SHOWN_LOG_LINES, Child, Children, check_running, death_of
from tailrace.cli.processes.deaths import MAX_DEATHS, Deaths
from tailrace.cli.processes.local import start_gateway, start_worker

LOOK_SECONDS: Final = 0.5
# What gateways and workers leave their viewers and executions by default, and a little.
STOP_SECONDS: Final = 15.0
# What a worker needs to kill a program that does not heed SIGTERM, and a little.
ORPHAN_SECONDS: Final = 6.0


async def run_all(directory: Path, *, host: str, port: int, allow_command: bool, pipelines: Sequence[str] = ()) -> None:
    """Return when interrupted, which is how it should end. Raises BusError, ChildError, CliError."""
    async with await start_embedded(str(directory)) as server:
        logs = server.directory / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        with _alone(server):
            async with Children(logs, stop_seconds=STOP_SECONDS, orphan_seconds=ORPHAN_SECONDS) as children:
                documents = Path.cwd()
                options = [
                    *("--document-root", str(documents)),
                    *(["--allow-command"] if allow_command else []),
                    *(option for named in pipelines for option in ("--pipelines", named)),
                ]

                async def begin_worker() -> Child:
                    return start_worker(children, "worker", server.url, *options)

                worker = Part(await begin_worker(), begin_worker)
                first, url = await start_gateway(children, "gateway", server.url, host=host, port=port)

                async def begin_gateway() -> Child:
                    # Where its viewers will look for it.
                    same = httpx.URL(url).port or port
                    return (await start_gateway(children, "gateway", server.url, host=host, port=same))[0]

                print(
                    f"gateway  {url}\n"
                    f"redis    {server.url}\n"
                    f"data     {server.directory}\n"
                    f"logs     {logs}\n"
                    f"reads    documents below {documents}\n"
                    f"try      tailrace submit document path=$PWD/README.md --follow --gateway {url}\n"
                    "Ctrl-C ends everything.",
                    flush=True,
                )
                with contextlib.suppress(asyncio.CancelledError):
                    await _watch(ServerPart(server), worker, Part(first, begin_gateway))


class Part:
    """A process that is started again when it dies, and not for ever."""

    def __init__(self, child: Child, begin: Callable[[], Awaitable[Child]]) -> None:
        self._child = child
        self._begin = begin
        self._deaths = Deaths()

    async def look_after(self) -> None:
        """Raises ChildError when it dies again and again, or does not come up again."""
        how = death_of(self._child)
        if how is None:
            return
        if self._deaths.too_many():
            check_running(self._child)
        print(f"the {self._child.name} {how}; starting it again", flush=True)
        self._child = await self._begin()


class ServerPart:
    """The embedded Valkey, of which only its lock tells that it has gone: its supervisor is not our child."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._deaths = Deaths()

    async def look_after(self) -> None:
        """Raises CliError when it dies again and again, EmbeddedServerError when it does not come up again."""
        if self._server.is_running():
            return
        if self._deaths.too_many():
            said = self._server.last_words(SHOWN_LOG_LINES)
            raise CliError(
                f"Valkey has stopped {MAX_DEATHS} times within a minute; its last output:\n{said}", ExitCode.BUS
            )
        print("Valkey has stopped; restarting it with its data", flush=True)
        await self._server.restart()


async def _watch(*parts: Part | ServerPart) -> None:
    while True:
        for part in parts:
            await part.look_after()
        await asyncio.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def _alone(server: EmbeddedServer) -> Iterator[None]:
    """One `up` a directory: a second one would write over the logs of the first."""
    with (server.directory / "up.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CliError(
                f"another 'tailrace up' is running in {server.directory}; choose another directory with --dir",
                ExitCode.CONFLICT,
            ) from None
        yield
