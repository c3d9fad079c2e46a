"""Each fault on each shape of Redis, under executions that work and viewers that watch: a row for each.

``make fault-table``, or ``python -m tests.fault_table --topology standalone --fault outage-14 --executions 60``.
Exit code 1 when a row has what must not be. Independent of the rest of the suite and of the product's own code:
servers, viewers and the verdict are made here. Needs root (for the host that is cut off) and libfaketime (for the
clocks); rows that cannot be run are told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.fault_table.namespace import Namespace
from tests.fault_table.owner import OVER
from tests.fault_table.servers import TOPOLOGIES, Topology, faketime, free_port
from tests.fault_table.verdict import Row, judge, read_notes
from tests.fault_table.viewer import Viewer

LEASE_SECONDS = 30
BEGIN_SECONDS = 60.0
# How long everybody may take to be at work again, and to end.
SETTLE_SECONDS = 60.0
END_SECONDS = 90.0
HEADS = ("fault", "topology", *Row.heads())
PROGRAM, CONTINUING, JOB = "program", "continuing", "job"


class Process:
    """A process of the product's, of which standard error goes to a file."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._command, self._environment, self._log = command, environment, log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=os.environ | self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def signal(self, what: signal.Signals) -> None:
        self.process.send_signal(what)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


class World:
    """Everything that one row needs, at work."""

    def __init__(self, stack: ExitStack, topology: Topology, namespace: Namespace | None, directory: Path) -> None:
        self.topology = topology
        self.namespace = namespace
        self.directory = directory
        self._stack = stack
        self._environment = {
            "TAILRACE_REDIS_URL": topology.url,
            "TAILRACE_LEASE_SECONDS": str(LEASE_SECONDS),
            "FAULT_TABLE_DIRECTORY": str(directory),
            "TAILRACE_CONCURRENCY": "100",
        }
        self.gateways: list[Process] = []
        self.addresses = []
        for number in range(2):
            port = free_port("127.0.0.1")
            self.addresses.append(("127.0.0.1", port))
            self.gateways.append(self._run(f"gateway{number}", ["tailrace", "gateway", "--port", str(port)]))
        for _, port in self.addresses:
            until = time.monotonic() + BEGIN_SECONDS
            while not _is_ready(port):
                if time.monotonic() > until:
                    raise TimeoutError("a gateway is not ready")
                time.sleep(0.1)
        # The second of each kind is on the other host, and gets half of the jobs, before there is another.
        self._worker = ["tailrace", "worker", "--pipelines", "tests.fault_table.owner:registry"]
        self.workers: list[Process] = []
        self.programs: list[Process] = []
        self.kinds: dict[str, str] = {}
        # On the processes that are hit: the second worker and the second program.
        self.hit: set[str] = set()

    def begin(self, executions: int) -> None:
        share = executions // 6
        for number, policy in enumerate(("stop", "stop", "continue", "continue")):
            kind = PROGRAM if policy == "stop" else CONTINUING
            ids = [f"{kind}-{number}-{each}" for each in range(share)]
            self.kinds |= dict.fromkeys(ids, kind)
            name = f"program{number}"
            command = ["python", "-m", "tests.fault_table.owner", str(self.directory), name, policy, *ids]
            self.programs.append(self._run(name, command, away=number % 2 == 1))
        jobs = executions - 4 * share
        self.workers = [self._run("worker1", self._worker, away=True)]
        for each in range(jobs):
            if each == jobs // 2:
                self._await_jobs(each)
                self.workers.insert(0, self._run("worker0", self._worker))
            execution_id = f"{JOB}-{each}"
            self.kinds[execution_id] = JOB
            body = json.dumps({"pipeline": "steady", "input": {}, "execution_id": execution_id}).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.addresses[0][1]}/v1/executions", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30):
                pass

    def _await_jobs(self, count: int) -> None:
        until = time.monotonic() + BEGIN_SECONDS
        while sum(execution.startswith(JOB) for execution, _ in read_notes(self.directory).acts) < count:
            if time.monotonic() > until:
                raise TimeoutError(f"not within {BEGIN_SECONDS:g} s: {count} jobs are at work")
            time.sleep(0.1)

    def _run(self, name: str, command: list[str], *, away: bool = False) -> Process:
        command = [str(Path(sys.executable).parent / command[0]), *command[1:]]
        if away and self.namespace is not None:
            command = self.namespace.inside(command)
        process = Process(command, self._environment, self.directory / f"{name}.log")
        self._stack.callback(process.stop)
        return process


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False


Strike = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Strike
    # Kinds of which nobody may notice anything, and those that must complete whatever attempts it costs.
    spared: frozenset[str] = frozenset({PROGRAM, CONTINUING, JOB})
    may_cost_attempts: bool = False
    needs_failover: bool = False
    needs_namespace: bool = False
    needs_clock: bool = False


def outage(seconds: float, *, frozen: bool = False) -> Strike:
    async def strike(world: World) -> None:
        servers = world.topology.data_servers()
        for server in servers:
            server.freeze() if frozen else server.kill()
        await asyncio.sleep(seconds)
        if frozen:
            for server in servers:
                server.thaw()
        else:
            await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))

    return strike


async def planned_failover(world: World) -> None:
    await asyncio.to_thread(world.topology.fail_over)


async def primary_killed(world: World) -> None:
    old = world.topology.primary()
    old.kill()
    until = time.monotonic() + 60
    while await asyncio.to_thread(world.topology.primary) is old:
        if time.monotonic() > until:
            raise TimeoutError("nobody was promoted")
        await asyncio.sleep(0.1)
    await asyncio.to_thread(old.start)


def clock(ahead_seconds: float) -> Strike:
    async def strike(world: World) -> None:
        for server in world.topology.data_servers():
            server.set_clock(ahead_seconds)
        # What must not happen takes time: nobody is taken over though all leases look stale.
        await asyncio.sleep(10)

    return strike


async def worker_killed(world: World) -> None:
    world.workers[1].kill()


async def program_killed(world: World) -> None:
    world.programs[1].kill()


async def frozen_hosts(world: World) -> None:
    for process in (world.workers[1], world.programs[1], world.programs[3]):
        process.signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE_SECONDS + 10)
    for process in (world.workers[1], world.programs[1], world.programs[3]):
        process.signal(signal.SIGCONT)


async def black_hole(world: World) -> None:
    assert world.namespace is not None
    world.namespace.swallow()
    await asyncio.sleep(LEASE_SECONDS + 10)
    world.namespace.heal()


async def gateway_killed(world: World) -> None:
    world.gateways[0].kill()
    await asyncio.sleep(2)
    world.gateways[0].start()


FAULTS = [
    Fault("outage-3", outage(3)),
    Fault("outage-14", outage(14)),
    Fault("outage-60", outage(60), spared=frozenset({CONTINUING})),
    Fault("frozen-14", outage(14, frozen=True)),
    Fault("failover", planned_failover, needs_failover=True),
    Fault("primary-killed", primary_killed, needs_failover=True),
    Fault("clock-forward-60", clock(60), needs_clock=True),
    Fault("clock-back-60", clock(-60), needs_clock=True),
    Fault("worker-killed", worker_killed, spared=frozenset({PROGRAM, CONTINUING}), may_cost_attempts=True),
    Fault("program-killed", program_killed, spared=frozenset({JOB, CONTINUING}), may_cost_attempts=True),
    Fault("hosts-frozen-40", frozen_hosts, spared=frozenset(), may_cost_attempts=True),
    Fault("black-hole-40", black_hole, spared=frozenset(), needs_namespace=True, may_cost_attempts=True),
    Fault("gateway-killed", gateway_killed),
]


async def play(fault: Fault, topology: type[Topology], executions: int, viewers_each: int, directory: Path) -> Row:
    with ExitStack() as stack:
        namespace = stack.enter_context(Namespace()) if os.geteuid() == 0 else None
        made = topology(directory / "redis", namespace.host if namespace is not None else "127.0.0.1")
        stack.callback(made.close)
        world = World(stack, made, namespace, directory)
        world.begin(executions)
        viewers = {each: [Viewer(each, world.addresses) for _ in range(viewers_each)] for each in world.kinds}
        everybody = [viewer for several in viewers.values() for viewer in several]
        watching = [asyncio.create_task(viewer.watch()) for viewer in everybody]
        await _until(lambda: all(len(viewer.seen) > 3 for viewer in everybody), BEGIN_SECONDS, "all are at work")
        await fault.strike(world)
        healed = time.monotonic()
        await _until(
            lambda: all(v.ended or (v.times and v.times[-1] > healed + 1) for v in everybody), SETTLE_SECONDS, None
        )
        (directory / OVER).touch()
        await asyncio.wait(watching, timeout=END_SECONDS)
        for task in watching:
            task.cancel()
        over = time.monotonic()
        row = Row()
        notes = read_notes(directory)
        for execution_id, kind in world.kinds.items():
            key = f"tr:{{{execution_id}}}:log"
            judge(
                row,
                execution_id,
                kind=kind,
                entries=made.entries(key),
                viewers=viewers[execution_id],
                notes=notes,
                healed=healed,
            )
        for kind in fault.spared & row.disturbed.keys():
            row.defects.append(f"{row.disturbed[kind]} of kind {kind} noticed it")
        if row.attempts > 1 and not fault.may_cost_attempts:
            row.defects.append(f"attempt {row.attempts} was begun")
        print(f"  {over - healed:.1f} s to the end after healing", file=sys.stderr)
        return row


async def _until(holds: Callable[[], Any], seconds: float, what: str | None) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            if what is not None:
                raise TimeoutError(f"not within {seconds:g} s: {what}")
            return
        await asyncio.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault_table", description=__doc__)
    parser.add_argument("--topology", action="append", choices=TOPOLOGIES, help="default: all")
    parser.add_argument("--fault", action="append", choices=[each.name for each in FAULTS], help="default: all")
    parser.add_argument("--executions", type=int, default=60)
    parser.add_argument("--viewers", type=int, default=1, help="of each execution")
    parser.add_argument("--keep", type=Path, help="leave logs and notes in this folder")
    parser.add_argument("--json", action="store_true", help="print each row as JSON")
    options = parser.parse_args()
    rows = [
        (fault, name, topology)
        for fault in FAULTS
        for name, topology in TOPOLOGIES.items()
        if not (options.fault and fault.name not in options.fault)
        and not (options.topology and name not in options.topology)
    ]
    failed = 0
    if not options.json:
        print("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|")
    for number, (fault, name, topology) in enumerate(rows, 1):
        if why := why_not(fault, topology):
            print(f"{fault.name} on {name}: not run: {why}", file=sys.stderr)
            continue
        print(f"{number} of {len(rows)}: {fault.name} on {name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="tailrace-faults-") as temporary:
            directory = Path(temporary) if options.keep is None else options.keep / f"{name}.{fault.name}"
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            row = asyncio.run(play(fault, topology, options.executions, options.viewers, directory))
        failed += bool(row.defects)
        for defect in row.defects[:20]:
            print(f"  DEFECT {defect}", file=sys.stderr)
        if options.json:
            print(json.dumps({"fault": fault.name, "topology": name, **asdict(row)}), flush=True)
        else:
            print("| " + " | ".join([fault.name, name, *row.cells()]) + " |", flush=True)
    print(f"{failed} rows with defects", file=sys.stderr)
    return 1 if failed else 0


def why_not(fault: Fault, topology: type[Topology]) -> str | None:
    if fault.needs_failover and not topology.fails_over:
        return "there is nobody to fail over to"
    if fault.needs_namespace and os.geteuid() != 0:
        return "a host that is cut off needs root"
    if fault.needs_clock and faketime() is None:
        return "libfaketime is not installed"
    return None


if __name__ == "__main__":
    sys.exit(main())
