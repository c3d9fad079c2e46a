from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.contenders.contender import Contender, Publishing, Running, Watching
from bench.process import Stage, free_port, listens

_HERE = Path(__file__).parent


class Bare(Contender):
    name = "bare"
    about = "the physical limit: a loop of bare send() in one process (C when there is a compiler)"
    remembers = False

    def start(self, stage: Stage) -> Running:
        port = free_port()
        server = stage.start("bare", [*self._command(stage), str(port)])
        server.await_ready(lambda: listens(port))
        return Running(
            gateway=(server,),
            redis=(),
            publishing=Publishing("bare", port),
            watching=Watching((port,), "/{run}"),
        )

    def _command(self, stage: Stage) -> list[str]:
        compiler = shutil.which("cc")
        if compiler is None:
            return [sys.executable, str(_HERE / "bare_loop.py")]
        program = stage.folder / "bare"
        subprocess.run([compiler, "-O2", "-o", program, _HERE / "bare.c"], check=True)
        return [str(program)]
