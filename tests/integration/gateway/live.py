"""Gateways to talk to: in this process for most tests, as a process of its own where ending matters."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from tailrace.bus import Bus
from tailrace.gateway.app import GatewayApp, create_app
from tailrace.gateway.asgi.listener import bind, listen, url_of
from tailrace.gateway.server import GatewayServer
from tailrace.gateway.settings import GatewaySettings, read_settings
from tests.child import Child
from tests.patience import patient

READY_SECONDS = 30.0

_PROGRAM = """
import sys
from tailrace.cli.main import run
sys.exit(run(["gateway"]))
"""


@asynccontextmanager
async def live_gateway(bus: Bus, settings: GatewaySettings | None = None) -> AsyncGenerator[str, None]:
    """A real server on a free port, in this event loop; gives its URL."""
    app = create_app(bus, settings or read_settings(drain_seconds=0))
    async with live_app(app) as url:
        yield url


@asynccontextmanager
async def live_app(app: GatewayApp) -> AsyncGenerator[str, None]:
    ready = asyncio.Event()
    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        url = url_of(listener)
        server = GatewayServer(app, on_ready=ready.set)
        serving = asyncio.create_task(server.serve([listener]))
        readiness = asyncio.create_task(ready.wait())
        await asyncio.wait([serving, readiness], return_when=asyncio.FIRST_COMPLETED)
        readiness.cancel()
        if serving.done():
            await serving
        try:
            yield url
        finally:
            server.stop()
            await serving


class GatewayProcess(Child):
    """A gateway in a process of its own."""

    started_by: ClassVar[Sequence[str]] = ()
    """A command that is given the gateway's own."""

    def __init__(self, **environment: str) -> None:
        self.output: list[str] = []
        self.errors: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [*self.started_by, sys.executable, "-c", _PROGRAM],
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._collect, args=(stream, lines))
            for stream, lines in ((self._process.stdout, self.output), (self._process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self) -> str:
        """Wait for the line that says it is ready."""
        if not self._ready.wait(patient(READY_SECONDS)) or not self.output:
            raise AssertionError(f"the gateway did not become ready: {self.errors}")
        found = re.search(r"http://\S+", self.output[0])
        assert found is not None, self.output
        return found[0]

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_seconds: float = 30.0) -> tuple[int, float]:
        """Its exit code, and how many seconds that took from now on."""
        begun = time.monotonic()
        code = self._process.wait(patient(timeout_seconds))
        took = time.monotonic() - begun
        for reader in self._readers:
            reader.join()
        return code, took

    def _ended(self) -> None:
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _collect(self, stream: object, lines: list[str]) -> None:
        for line in stream:  # type: ignore[attr-defined]
            lines.append(line.rstrip("\n"))
            if lines is self.output:
                self._ready.set()
        self._ready.set()


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    session = {name: value for name, value in os.environ.items() if name == "TAILRACE_TEST_SESSION"}
    settings = {"TAILRACE_PORT": "0", "TAILRACE_DRAIN_SECONDS": "0.2"}
    chosen = {f"TAILRACE_{name.upper()}": value for name, value in given.items()}
    return {**inherited, **session, **settings, **chosen}
