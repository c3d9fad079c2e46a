"""One round at a steady rate: publisher → contender → viewers, measured in a window between warm-up and end."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.accounting import Machine, cpu_seconds
from bench.contenders import Contender, Running
from bench.load.remote import LoadError, Remote
from bench.measurement import Account, Measurement, flags
from bench.process import Server, stage

_SAMPLES = 60_000
_QUIET_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Load:
    """``viewers`` are dealt to ``runs`` in turn; ``rate`` is events per second over all runs."""

    scenario: str
    runs: int
    viewers: int
    rate: float
    seconds: float
    warm_seconds: float = 1.0

    @property
    def deliveries_per_second(self) -> float:
        return self.rate * self.viewers / self.runs


@dataclass(frozen=True, slots=True)
class _Usage:
    machine: Machine
    gateway_seconds: float
    redis_seconds: float
    load_seconds: float
    bench_seconds: float

    @classmethod
    def now(cls, running: Running, load: Sequence[Remote]) -> _Usage:
        return cls(
            Machine.now(),
            _cpu(running.gateway),
            _cpu(running.redis),
            sum(process.cpu_seconds() for process in load),
            cpu_seconds(os.getpid()),
        )

    @property
    def ours_seconds(self) -> float:
        return self.gateway_seconds + self.redis_seconds + self.load_seconds + self.bench_seconds


def _cpu(servers: Sequence[Server]) -> float:
    return sum(server.cpu_seconds() for server in servers)


def executions(count: int) -> list[str]:
    """Names that no earlier round used."""
    nonce = f"{time.time_ns() & 0xFFFFFFFF:08x}"
    return [f"bench-{nonce}-{number:05d}" for number in range(count)]


def measure(contender: Contender, load: Load) -> Measurement:
    """One round. Raises LoadError, NotReadyError."""
    names = executions(load.runs)
    with stage() as opened, Remote("viewers") as viewers, Remote("publisher") as publisher:
        running = contender.start(opened)
        publishing = running.publishing
        publisher.ask("open", kind=publishing.kind, port=publishing.port, executions=names, options=publishing.options)
        if contender.remembers:
            publisher.ask("fill", each=1)
        opening = viewers.ask(
            "open",
            watch=running.watching.order(),
            executions=names,
            viewers=load.viewers,
            seen=1 if contender.remembers else 0,
            cursors=None,
        )
        if opening["failed"]:
            raise LoadError(f"{opening['failed']} of {load.viewers} viewers failed: {opening['reason']}")
        return _run(contender, load, running, viewers, publisher)


def _run(contender: Contender, load: Load, running: Running, viewers: Remote, publisher: Remote) -> Measurement:
    expected = load.deliveries_per_second * load.seconds
    publisher.send("pace", rate=load.rate, seconds=load.warm_seconds + load.seconds + 0.3)
    time.sleep(load.warm_seconds)
    viewers.ask("mark", sample_every=max(1, int(expected / _SAMPLES)))
    before = _Usage.now(running, (viewers, publisher))
    time.sleep(load.seconds)
    after = _Usage.now(running, (viewers, publisher))
    window = viewers.ask("window")
    memory_bytes = sum(server.pss_bytes() for server in running.gateway)
    paced = publisher.answer()
    sent = publisher.ask("sent")["sent"]
    settled = viewers.ask("settle", sent=sent, quiet_seconds=_QUIET_SECONDS)
    account = Account(**{name: settled[name] for name in ("lost", "gaps", "duplicates", "foreign", "cut")})

    seconds = after.machine.at_seconds - before.machine.at_seconds
    delivered = max(1, window["events"])
    gateway_seconds = after.gateway_seconds - before.gateway_seconds
    busy_seconds = after.machine.busy_seconds - before.machine.busy_seconds
    others = busy_seconds - (after.ours_seconds - before.ours_seconds)
    stolen = after.machine.stolen_seconds - before.machine.stolen_seconds
    figures = {
        "delivered_per_second": delivered / seconds,
        "offered_deliveries_per_second": load.deliveries_per_second,
        "gateway_us_per_delivery": gateway_seconds / delivered * 1e6,
        "gateway_cores": gateway_seconds / seconds,
        "redis_us_per_event": (after.redis_seconds - before.redis_seconds)
        / (delivered * load.runs / load.viewers)
        * 1e6,
        "redis_cores": (after.redis_seconds - before.redis_seconds) / seconds,
        "generator_us_per_delivery": window["cpu_seconds"] / delivered * 1e6,
        "generator_cores": window["cpu_seconds"] / window["seconds"],
        "publisher_cores": paced["cpu_seconds"] / (load.warm_seconds + load.seconds),
        "others_cores": max(0.0, others + stolen) / seconds,
        "p50_ms": window["p50_ms"],
        "p99_ms": window["p99_ms"],
        "max_ms": window["max_ms"],
        "events_per_read": delivered / max(1, window["chunks"]),
        "bytes_per_delivery": window["bytes"] / delivered,
        "gateway_memory_mb": memory_bytes / 1e6,
        "publisher_late_ms": paced["late_ms"],
        "held_back": paced["held_back"],
    }
    found = flags(
        account,
        delivered_share=figures["delivered_per_second"] / load.deliveries_per_second,
        generator_share=figures["generator_cores"],
        others_share=figures["others_cores"],
        held_back=paced["held_back"],
    )
    return Measurement(load.scenario, contender.name, figures, account, found)
