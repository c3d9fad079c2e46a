from __future__ import annotations

import sys
from typing import ClassVar

from bench.contenders.contender import Contender, Publishing, Running, Watching
from bench.process import Stage, answers, free_port, start_valkey


class Embedded(Contender):
    """The gateway in an application of one's own, on a stock server."""

    command: ClassVar[tuple[str, ...]] = ("uvicorn", "--no-access-log", "--log-level=warning", "--port={port}")
    app: ClassVar[str] = "app"
    path: ClassVar[str] = "/live/v1/executions/{execution}/events"

    def start(self, stage: Stage) -> Running:
        valkey, redis_port = start_valkey(stage)
        port = free_port()
        module, *options = (part.replace("{port}", str(port)) for part in self.command)
        server = stage.start(
            self.name,
            [sys.executable, "-m", module, *options, f"bench.contenders.embedded_app:{self.app}"],
            environment={"BENCH_REDIS_URL": f"redis://127.0.0.1:{redis_port}"},
        )
        server.await_ready(lambda: answers(port, "/ready"))
        return Running(
            gateway=(server,),
            redis=(valkey,),
            publishing=Publishing("resp", redis_port),
            watching=Watching((port,), self.path),
        )


class EmbeddedUvicorn(Embedded):
    name = "embedded"
    about = "the gateway's routes in an application of one's own, on a stock uvicorn"


class OwnWire(Embedded):
    name = "own-wire"
    about = "in the same application, a route with a wire of its own that says the same in Python"
    path = "/own/{execution}"


class EmbeddedLayered(Embedded):
    name = "embedded-layered"
    about = "the gateway's routes behind BaseHTTPMiddleware: every write goes through the layers"
    app = "layered"


class EmbeddedHypercorn(Embedded):
    name = "embedded-hypercorn"
    about = "the gateway's routes in an application of one's own, on hypercorn"
    command = ("hypercorn", "--workers=0", "--bind=127.0.0.1:{port}")
