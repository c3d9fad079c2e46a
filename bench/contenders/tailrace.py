from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import ClassVar

from bench.contenders.contender import Contender, Publishing, Running, Watching
from bench.process import Server, Stage, answers, free_port, start_valkey


def _program() -> str | None:
    beside = Path(sys.executable).with_name("tailrace")
    return str(beside) if beside.exists() else shutil.which("tailrace")


class Tailrace(Contender):
    """Started as a user starts it: the command line, with nothing set that a user would not set."""

    tail: ClassVar[str] = "tracking"
    gateways: ClassVar[int] = 1
    processes: ClassVar[int] = 1
    query: ClassVar[str] = ""

    def missing(self) -> str | None:
        return None if _program() else "the `tailrace` command is not installed"

    def start(self, stage: Stage) -> Running:
        valkey, redis_port = start_valkey(stage)
        started = [self._gateway(stage, redis_port) for _ in range(self.gateways)]
        for server, port in started:
            server.await_ready(lambda port=port: answers(port, "/readyz"))  # type: ignore[misc]
        return Running(
            gateway=tuple(server for server, _ in started),
            redis=(valkey,),
            publishing=Publishing("resp", redis_port),
            watching=self._watching(tuple(port for _, port in started)),
        )

    def _gateway(self, stage: Stage, redis_port: int) -> tuple[Server, int]:
        port = free_port()
        command = [
            *(_program() or "tailrace", "gateway", "--host", "127.0.0.1", "--port", str(port)),
            *("--redis-url", f"redis://127.0.0.1:{redis_port}", "--tail", self.tail),
            *("--processes", str(self.processes)),
        ]
        return stage.start(self.name, command), port

    def _watching(self, ports: tuple[int, ...]) -> Watching:
        return Watching(ports, "/v1/executions/{execution}/events" + self.query)


class TailraceTracking(Tailrace):
    name = "tailrace"
    about = "the gateway as it starts by default: CLIENT TRACKING as readiness"


class TailraceBlocking(Tailrace):
    name = "tailrace-blocking"
    about = "the gateway where tracking is refused: blocking XREAD in groups of 64 runs"
    tail = "blocking"


class TailraceCoalescing(Tailrace):
    name = "tailrace-coalesce20"
    about = "the gateway, viewers asking for ?coalesce_ms=20"
    query = "?coalesce_ms=20"


class TailraceSockets(Tailrace):
    name = "tailrace-ws"
    about = "the gateway, viewers on WebSocket (tailrace.v1.json)"

    def _watching(self, ports: tuple[int, ...]) -> Watching:
        return Watching(
            ports,
            "/v1/ws",
            kind="ws",
            subprotocol="tailrace.v1.json",
            subscribe='{"op":"subscribe","id":1,"execution":"{execution}","from":"0"}',
        )


class TailracePair(Tailrace):
    name = "tailrace-pair"
    about = "two gateways on one Valkey, viewers dealt to both"
    gateways = 2


class TailraceProcesses(Tailrace):
    name = "tailrace-processes"
    about = "the gateway with --processes 2: two on one port, the supervisor's own CPU counted"
    processes = 2
