"""One round of a resume storm: everybody comes back at once, from a cursor far behind."""

from __future__ import annotations

from dataclasses import dataclass

from bench.contenders import Contender
from bench.load.remote import LoadError, Remote
from bench.measurement import Account, Measurement, flags
from bench.paced import executions
from bench.process import stage


@dataclass(frozen=True, slots=True)
class Storm:
    """``viewers`` each resume ``missed`` events back; the gateway has never read those executions before."""

    scenario: str
    viewers: int
    missed: int
    own_runs: bool


def measure(contender: Contender, storm: Storm) -> Measurement:
    """One round, timed from the first connect until every viewer has its last event."""
    names = executions(storm.viewers if storm.own_runs else 1)
    with stage() as opened, Remote("viewers") as viewers, Remote("publisher") as publisher:
        running = contender.start(opened)
        publishing, watch = running.publishing, running.watching.order()
        publisher.ask("open", kind=publishing.kind, port=publishing.port, executions=names, options=publishing.options)
        seen = 1 if storm.own_runs else storm.missed
        publisher.ask("fill", each=seen)
        if publishing.kind == "resp":
            cursors = publisher.ask("cursors")["cursors"]
        else:
            viewers.ask("open", watch=watch, executions=names, viewers=len(names), seen=seen, cursors=None)
            cursors = viewers.ask("cursors")["cursors"]
            viewers.ask("close")
        publisher.ask("fill", each=storm.missed)
        sent = publisher.ask("sent")["sent"]

        viewers.ask("mark", sample_every=1 << 40)
        cpu_seconds = sum(server.cpu_seconds() for server in running.gateway)
        opening = viewers.ask("open", watch=watch, executions=names, viewers=storm.viewers, seen=seen, cursors=cursors)
        if opening["failed"]:
            raise LoadError(f"{opening['failed']} of {storm.viewers} viewers failed: {opening['reason']}")
        settled = viewers.ask("settle", sent=sent, quiet_seconds=5.0)
        cpu_seconds = sum(server.cpu_seconds() for server in running.gateway) - cpu_seconds
        window = viewers.ask("window")
        memory_bytes = sum(server.pss_bytes() for server in running.gateway)
    account = Account(**{name: settled[name] for name in ("lost", "gaps", "duplicates", "foreign", "cut")})
    seconds = settled["seconds"]
    figures = {
        "events_per_second": window["events"] / seconds,
        "seconds": seconds,
        "gateway_us_per_delivery": cpu_seconds / max(1, window["events"]) * 1e6,
        "generator_us_per_delivery": window["cpu_seconds"] / max(1, window["events"]) * 1e6,
        "generator_cores": window["cpu_seconds"] / seconds,
        "gateway_memory_mb": memory_bytes / 1e6,
    }
    found = flags(account, generator_share=figures["generator_cores"])
    return Measurement(storm.scenario, contender.name, figures, account, found)
