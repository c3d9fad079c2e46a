from __future__ import annotations

import sys

from bench.contenders.contender import Contender, Publishing, Running, Watching
from bench.process import Stage, answers, free_port, start_valkey


class Handwritten(Contender):
    name = "handwritten"
    about = "FastAPI on uvicorn (uvloop, httptools), one XREAD BLOCK per viewer, sse-starlette's EventSourceResponse"

    def start(self, stage: Stage) -> Running:
        valkey, redis_port = start_valkey(stage)
        port = free_port()
        server = stage.start(
            self.name,
            [
                *(sys.executable, "-m", "uvicorn", "bench.contenders.handwritten_app:app"),
                *("--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop", "--http", "httptools"),
                *("--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "1"),
            ],
            environment={"BENCH_REDIS_URL": f"redis://127.0.0.1:{redis_port}"},
        )
        server.await_ready(lambda: answers(port, "/ready"))
        return Running(
            gateway=(server,),
            redis=(valkey,),
            publishing=Publishing("resp", redis_port),
            watching=Watching((port,), "/events/{execution}"),
        )
