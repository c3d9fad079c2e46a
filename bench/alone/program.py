"""The bench's side: starts a program of this folder with a Valkey of its own, and reads what it measured.

A program gets its order as JSON in its only argument and prints its figures as one JSON object, names with units.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any, Final

from bench.accounting import Machine
from bench.load.remote import LoadError
from bench.measurement import Measurement, flags
from bench.process import Server, stage, start_valkey

_PATIENCE_SECONDS: Final = 120.0


def measure(scenario: str, contender: str, program: str, *, redis: bool = True, **order: Any) -> Measurement:
    """One round of ``bench.alone.PROGRAM``; the order names its Redis. Raises LoadError, NotReadyError."""
    order |= {"contender": contender}
    servers: list[Server] = []
    with stage() as opened:
        if redis:
            valkey, port = start_valkey(opened)
            servers.append(valkey)
            order |= {"redis_port": port, "redis_pid": valkey.pids[0]}
        before, ours_seconds = Machine.now(), _ours_seconds(servers)
        try:
            run = subprocess.run(
                [sys.executable, "-m", f"bench.alone.{program}", json.dumps(order)],
                capture_output=True,
                text=True,
                check=False,
                timeout=_PATIENCE_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"{program} took more than {_PATIENCE_SECONDS:g} s") from error
        after, ours_seconds = Machine.now(), _ours_seconds(servers) - ours_seconds
    if run.returncode:
        raise LoadError(f"{program} ended with {run.returncode}: {run.stderr[-1000:]}")
    figures: dict[str, float] = json.loads(run.stdout)
    others_seconds = after.busy_seconds - before.busy_seconds - ours_seconds
    others_seconds += after.stolen_seconds - before.stolen_seconds
    figures["others_cores"] = max(0.0, others_seconds) / (after.at_seconds - before.at_seconds)
    return Measurement(scenario, contender, figures, flags=flags(others_share=figures["others_cores"]))


def _ours_seconds(servers: list[Server]) -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + time.process_time() + sum(server.cpu_seconds() for server in servers)
