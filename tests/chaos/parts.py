"""What can die in a deployment: each part is killed, frozen or asked to leave, and comes back at the same address."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from tests.faults.workers.working import Order, WorkerProcess
from tests.integration.gateway.live import GatewayProcess
from tests.servers import RunningServer, free_port, spawn_server

LEASE_SECONDS = 3.0


class Part(Protocol):
    """All methods block."""

    def kill(self) -> None:
        """SIGKILL."""

    def leave(self) -> None:
        """SIGTERM, as in a rolling restart; returns when it is gone."""

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def begin(self) -> None:
        """Start it again."""


class RedisPart:
    """Everything that Redis said is there again when it is back: see ``RunningServer``."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.server: RunningServer = stack.enter_context(
            spawn_server("valkey", directory=directory, appendonly=True, port=0)
        )
        self.kill, self.leave = self.server.kill, self.server.terminate
        self.freeze, self.thaw = self.server.pause, self.server.resume
        self.begin = self.server.start


class GatewayPart:
    def __init__(self, stack: ExitStack, redis_url: str, prefix: str) -> None:
        self._stack = stack
        self._settings = {"redis_url": redis_url, "prefix": prefix, "port": str(free_port()), "drain_seconds": "1"}
        self.begin()
        self.url = self._process.url()

    def begin(self) -> None:
        self._process = self._stack.enter_context(GatewayProcess(**self._settings))

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def leave(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        self._process.signal(how)
        self._process.wait()


class WorkerPart:
    def __init__(self, stack: ExitStack, redis_url: str, prefix: str) -> None:
        self._stack = stack
        self._order = Order(redis_url=redis_url, prefix=prefix, lease_seconds=LEASE_SECONDS, concurrency=50)
        self.begin()

    def begin(self) -> None:
        self._process = self._stack.enter_context(WorkerProcess(self._order))

    def kill(self) -> None:
        self._process.kill()

    def leave(self) -> None:
        self._process.terminate()

    def freeze(self) -> None:
        self._process.freeze()

    def thaw(self) -> None:
        self._process.thaw()
