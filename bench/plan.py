"""What is measured: the scenarios of the full run and of the quick one."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bench import idle, paced, storm
from bench.alone import append, emit, jobs, link, pipeline, program, stages
from bench.contenders import ALL
from bench.scenario import Scenario

EVERYBODY: Final = ("tailrace", "tailrace-blocking", "bare", "nchan", "centrifugo", "handwritten")
_FANOUT: Final = (
    "tailrace",
    "tailrace-coalesce20",
    "tailrace-ws",
    "bare",
    "nchan",
    "centrifugo",
    "handwritten",
)
_PLAIN_FANOUT: Final = ("tailrace", "tailrace-coalesce20", "bare", "nchan", "centrifugo")
_HOSTS: Final = ("tailrace", "embedded", "own-wire", "embedded-layered", "embedded-hypercorn")
_KEEPERS: Final = ("tailrace", "nchan", "centrifugo", "handwritten")


def _missing(name: str) -> str | None:
    return ALL[name].missing()


def _paced(group: str, load: paced.Load, title: str, contenders: tuple[str, ...], ladder: str = "") -> Scenario:
    return Scenario(
        load.scenario,
        group,
        title,
        contenders,
        lambda name: paced.measure(ALL[name], load),
        _missing,
        ladder=ladder,
    )


def many(runs: int, rate: int, seconds: float, contenders: tuple[str, ...] = EVERYBODY) -> Scenario:
    load = paced.Load(f"many-{runs}-{rate // 1000}k", runs, runs, rate, seconds)
    return _paced("many", load, f"{runs} executions, one viewer each, {rate:,} ev/s", contenders, ladder=f"many-{runs}")


def fanout(viewers: int, rate: int, seconds: float, contenders: tuple[str, ...] = _FANOUT) -> Scenario:
    load = paced.Load(f"fanout-{viewers}-{rate}", 1, viewers, rate, seconds)
    return _paced(
        "fanout", load, f"{viewers} viewers of one execution, {rate} ev/s", contenders, ladder=f"fanout-{viewers}"
    )


def embedded(runs: int, viewers: int, rate: int, seconds: float, contenders: tuple[str, ...] = _HOSTS) -> Scenario:
    """The same gateway as a process of ours, in an application of one's own, and with a wire of one's own."""
    load = paced.Load(f"own-wire-{runs}x{viewers // runs}", runs, viewers, rate, seconds)
    title = f"in an application of one's own, {runs} executions, {viewers} viewers, {rate:,} ev/s"
    return _paced("embedded", load, title, contenders)


def latency(seconds: float, contenders: tuple[str, ...] = EVERYBODY) -> Scenario:
    load = paced.Load("latency-1k", 100, 100, 1000, seconds)
    return _paced("latency", load, "publish to viewer, 100 executions, one viewer each, 1,000 ev/s", contenders)


def pair(rate: int, seconds: float) -> Scenario:
    load = paced.Load(f"pair-500-{rate // 1000}k", 500, 500, rate, seconds)
    title = f"two gateways against one, 500 executions, one viewer each, {rate:,} ev/s"
    return _paced("pair", load, title, ("tailrace", "tailrace-pair"))


def processes(rate: int, seconds: float) -> Scenario:
    """More than one process can carry. Two cores also carry the load generator and Redis, so see the CPU a delivery."""
    load = paced.Load(f"processes-{rate // 1000}k", 500, 500, rate, seconds)
    title = f"two processes of a gateway against one, 500 executions, one viewer each, {rate:,} ev/s"
    return _paced("processes", load, title, ("tailrace", "tailrace-processes"))


def waiting(
    viewers: int, own_runs: bool, seconds: float, contenders: tuple[str, ...] = _KEEPERS, wire: str = "sse"
) -> Scenario:
    load = idle.Waiting(f"idle-{wire}-{viewers}-{'own' if own_runs else 'one'}", viewers, own_runs, seconds)
    return Scenario(
        load.scenario,
        "idle",
        f"{viewers} idle {'SSE' if wire == 'sse' else 'WebSocket'} viewers, "
        + ("each of its own execution" if own_runs else "all of one execution"),
        contenders,
        lambda name: idle.measure(ALL[name], load),
        _missing,
    )


def resuming(viewers: int, missed: int, own_runs: bool, contenders: tuple[str, ...] = _KEEPERS) -> Scenario:
    load = storm.Storm(f"storm-{viewers}x{missed}-{'own' if own_runs else 'one'}", viewers, missed, own_runs)
    return Scenario(
        load.scenario,
        "storm",
        f"{viewers} viewers resume {missed} events back, "
        + ("each of its own execution" if own_runs else "all of one execution"),
        contenders,
        lambda name: storm.measure(ALL[name], load),
        _missing,
    )


def emitting(runs: int, events: int) -> Scenario:
    name = f"emit-{runs}"
    return Scenario(
        name,
        "emit",
        f"a producer states {events:,} events in " + ("one execution" if runs == 1 else f"{runs} executions"),
        emit.CONTENDERS,
        lambda contender: program.measure(name, contender, "emit", runs=runs, events=events),
    )


def appending(batch: int, events: int) -> Scenario:
    name = f"append-{batch}"
    return Scenario(
        name,
        "append",
        f"Redis takes {events:,} events of 100 runs, {batch} at a time",
        append.CONTENDERS,
        lambda contender: program.measure(name, contender, "append", batch=batch, events=events, runs=100),
    )


def streaming(steps: int, contenders: tuple[str, ...] = pipeline.CONTENDERS) -> Scenario:
    return Scenario(
        "pipeline",
        "pipeline",
        f"a pipeline of {steps} steps with every event published against none",
        contenders,
        lambda contender: program.measure("pipeline", contender, "pipeline", steps=steps),
    )


def working(count: int, concurrency: int) -> Scenario:
    name = f"jobs-{concurrency}"
    return Scenario(
        name,
        "jobs",
        f"one worker process does {count:,} empty jobs, {concurrency} at a time",
        jobs.CONTENDERS,
        lambda contender: program.measure(name, contender, "jobs", jobs=count, concurrency=concurrency),
    )


def reading(streams: int, entries: int) -> Scenario:
    name = f"link-{streams}"
    return Scenario(
        name,
        "link",
        f"one XREAD finds {streams} ready stream{'s' * (streams > 1)}, one entry each",
        link.CONTENDERS,
        lambda contender: program.measure(name, contender, "link", streams=streams, entries=entries),
    )


def staging(name: str, title: str, rows: tuple[str, ...], sizes: tuple[int, ...], entries: int) -> Scenario:
    return Scenario(
        name,
        "stages",
        title,
        rows,
        lambda stage: program.measure(name, stage, "stages", redis=False, entries=entries, sizes=sizes),
    )


def full() -> list[Scenario]:
    """Three rounds of each; two where no budget is at stake, and of memory, which hardly varies."""
    seconds = 3.0
    many_runs = ("tailrace", "bare", "nchan", "centrifugo")
    return [
        *(many(500, rate, seconds) for rate in (5_000, 20_000, 50_000)),
        replace(many(5000, 5_000, seconds, many_runs), rounds=2),
        many(5000, 20_000, seconds, many_runs),
        replace(many(5000, 50_000, seconds, many_runs), rounds=2),
        fanout(500, 100, seconds),
        replace(fanout(500, 250, seconds, _PLAIN_FANOUT), rounds=2),
        replace(fanout(2000, 50, seconds, _PLAIN_FANOUT), rounds=2),
        embedded(1, 500, 100, seconds),
        embedded(500, 500, 5_000, seconds),
        replace(waiting(2000, own_runs=False, seconds=3.0, contenders=_HOSTS), rounds=2),
        latency(seconds),
        *(replace(pair(rate, seconds), rounds=2) for rate in (20_000, 50_000)),
        *(processes(rate, seconds) for rate in (20_000, 100_000)),
        replace(waiting(5000, own_runs=False, seconds=3.0), rounds=2),
        replace(waiting(5000, own_runs=True, seconds=3.0, contenders=("tailrace", "nchan", "centrifugo")), rounds=2),
        *(replace(waiting(2000, own_runs, 3.0, ("tailrace-ws",), wire="ws"), rounds=2) for own_runs in (False, True)),
        resuming(1000, 1000, own_runs=False),
        resuming(1000, 1000, own_runs=True, contenders=("tailrace",)),
        *(emitting(runs, 100_000) for runs in (1, 50)),
        streaming(10),
        *(appending(batch, 50_000) for batch in (1, 10, 50)),
        *(working(3000, concurrency) for concurrency in (8, 50)),
        *(reading(streams, entries) for streams, entries in ((1, 20_000), (10, 100_000), (100, 200_000))),
        staging("stages-deliver", "a gateway's work for an entry, stage by stage", stages.DELIVERING, (1, 10), 20_000),
        staging("stages-emit", "a producer's work for an event, without Redis", stages.EMITTING, (1, 500), 20_000),
    ]


def quick() -> list[Scenario]:
    """The same loads where they fit, fewer and shorter: a look, not a figure to quote."""
    seconds = 1.5
    return [
        many(500, 5_000, seconds, ("tailrace", "bare", "nchan", "handwritten")),
        many(500, 20_000, seconds, ("tailrace", "bare")),
        fanout(500, 100, seconds, ("tailrace", "bare", "nchan")),
        embedded(1, 500, 100, seconds, ("embedded", "own-wire")),
        latency(seconds, ("tailrace",)),
        waiting(1000, own_runs=True, seconds=1.0, contenders=("tailrace",)),
        waiting(500, own_runs=True, seconds=1.0, contenders=("tailrace-ws",), wire="ws"),
        resuming(200, 1000, own_runs=False, contenders=("tailrace",)),
        emitting(1, 20_000),
        streaming(3, contenders=("tailrace",)),
        appending(10, 10_000),
        working(1000, 50),
        reading(10, 20_000),
    ]
