"""One round of viewers that wait: the memory that each costs the gateway, and the CPU of keeping them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from bench.contenders import Contender
from bench.load.remote import LoadError, Remote
from bench.measurement import Account, Measurement, flags
from bench.paced import executions
from bench.process import stage

_WARM_VIEWERS: Final = 100
_SETTLE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """``viewers`` beyond the first hundred, which warm the code up and are part of the baseline."""

    scenario: str
    viewers: int
    own_runs: bool
    seconds: float


def measure(contender: Contender, waiting: Waiting) -> Measurement:
    """One round. At its end every viewer gets one more event: the idle connections were alive."""
    runs = waiting.viewers + _WARM_VIEWERS if waiting.own_runs else 1
    names = executions(runs)
    with stage() as opened, Remote("viewers") as viewers, Remote("publisher") as publisher:
        running = contender.start(opened)
        publishing = running.publishing
        publisher.ask("open", kind=publishing.kind, port=publishing.port, executions=names, options=publishing.options)
        publisher.ask("fill", each=1)

        def connect(count: int) -> int:
            """Open so many more, wait until they rest, and return the gateway's memory."""
            opening = viewers.ask(
                "open", watch=running.watching.order(), executions=names, viewers=count, seen=1, cursors=None
            )
            if opening["failed"]:
                raise LoadError(f"{opening['failed']} of {count} viewers failed: {opening['reason']}")
            time.sleep(_SETTLE_SECONDS)
            return sum(server.pss_bytes() for server in running.gateway)

        baseline_bytes = connect(_WARM_VIEWERS)
        memory_bytes = connect(waiting.viewers)
        cpu_seconds = sum(server.cpu_seconds() for server in running.gateway)
        time.sleep(waiting.seconds)
        cpu_seconds = sum(server.cpu_seconds() for server in running.gateway) - cpu_seconds
        viewers.ask("mark", sample_every=1)
        publisher.ask("fill", each=1)
        settled = viewers.ask("settle", sent=publisher.ask("sent")["sent"], quiet_seconds=3.0)
    account = Account(**{name: settled[name] for name in ("lost", "gaps", "duplicates", "foreign", "cut")})
    figures = {
        "kb_per_viewer": (memory_bytes - baseline_bytes) / waiting.viewers / 1e3,
        "gateway_memory_mb": memory_bytes / 1e6,
        "idle_cores": cpu_seconds / waiting.seconds,
        "idle_us_per_viewer_second": cpu_seconds / waiting.seconds / waiting.viewers * 1e6,
    }
    return Measurement(waiting.scenario, contender.name, figures, account, flags(account))
