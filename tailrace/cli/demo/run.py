"""The demo: two gateways and a worker process a document; one gateway is killed; what every viewer got is compared."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from tailrace.bus import Entry, open_bus
from tailrace.bus.embedded import start_embedded
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START
from tailrace.cli.client.submission import submit_work
from tailrace.cli.client.watch import client_for
from tailrace.cli.demo import document
from tailrace.cli.demo.screen import Scene, Screen, open_screen, verdict_table
from tailrace.cli.demo.story import Expectation, Story
from tailrace.cli.demo.verdict import Fingerprint, Verdict, fingerprint, judge
from tailrace.cli.demo.viewers import Viewers
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.processes.children import Child, ChildError, Children, check_running
from tailrace.cli.processes.local import start_gateway, start_worker
from tailrace.workers.builtin.document_pipeline import STEP_NAMES

VIEWERS_PER_GATEWAY: Final = 10
TARGET_SECONDS: Final = 8.0
STALL_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class DemoProcesses:
    """What runs: two gateways over one Redis. The first gateway is the one to be killed."""

    children: Children
    redis_url: str
    first: Child
    first_url: str
    second_url: str

    def check(self, *, first_may_be_dead: bool) -> None:
        """Raises ChildError when something died that should not have."""
        for child in self.children.all:
            if child is not self.first or not first_may_be_dead:
                check_running(child)


async def run_demo(file: Path | None, *, stay: bool, console: Console) -> ExitCode:
    """Raises BusError, CliError when the machine does not allow it; a bad verdict is an exit code."""
    chosen = document.choose(file, Path.cwd())
    async with await start_embedded(None) as server:
        # Goes with the server, also when we are killed.
        logs = server.directory / "logs"
        logs.mkdir()
        try:
            async with Children(logs) as children:
                with open_screen(console) as screen:
                    screen.note("starting an embedded Valkey, two gateways and a worker")
                    processes = await _start(children, server.url, {Path.cwd(), chosen.parent})
                    execution_id, verdict = await _perform(processes, chosen, screen)
                _announce(verdict, console)
                if stay:
                    await _stay(processes, execution_id, console)
        except CliError:
            _keep(logs, console)
            raise
        if not verdict.good and verdict.failure is None:
            _keep(logs, console)
        return ExitCode.OK if verdict.good else ExitCode.RUN_FAILED


def _keep(logs: Path, console: Console) -> None:
    kept = shutil.copytree(logs, tempfile.mkdtemp(prefix="tailrace-demo-logs-"), dirs_exist_ok=True)
    console.print(f"The logs of the processes are in {kept}", markup=False, highlight=False, soft_wrap=True)


async def _start(children: Children, redis_url: str, documents: set[Path]) -> DemoProcesses:
    options = [option for folder in sorted(documents) if folder.is_dir() for option in ("--document-root", str(folder))]
    start_worker(children, "worker", redis_url, *options)
    (first, first_url), (_, second_url) = await asyncio.gather(
        start_gateway(children, "gateway A", redis_url), start_gateway(children, "gateway B", redis_url)
    )
    return DemoProcesses(children, redis_url, first, first_url, second_url)


async def _perform(processes: DemoProcesses, chosen: Path, screen: Screen) -> tuple[str, Verdict]:
    first, second = processes.first_url, processes.second_url
    expectation = Expectation.of_file(document.size_bytes(chosen), is_pdf=chosen.suffix.lower() == ".pdf")
    given = {"path": str(chosen), "pace_ms": expectation.pace_ms(TARGET_SECONDS)}
    screen.note(f"gateway A is {first}, gateway B is {second}")
    execution_id = await submit_work("document", given, gateways=[first], redis_url=None)
    screen.note(f"submitted {chosen} through gateway A: execution {execution_id}")
    scene = Scene(Story(expectation, dict.fromkeys(STEP_NAMES, 0.0)), {})
    async with client_for([first, second]) as client:
        viewers = Viewers(client, execution_id, scene, screen, {first: "A", second: "B"})
        try:
            for _ in range(VIEWERS_PER_GATEWAY):
                viewers.join([first, second])
                viewers.join([second, first])
            killed = await _kill_half_way(processes, viewers, screen)
            if killed:
                # One who comes late gets everything from the start.
                viewers.join([second])
            await _until_ended(processes, viewers, screen, killed=killed)
        finally:
            await viewers.leave()
    log, status = await _read_log(processes.redis_url, execution_id)
    screen.note(f"the execution is {status}; the log has {len(log)} events")
    seen = [viewer.seen for viewer in viewers.viewers]
    verdict = judge(log, seen, status=status, gateway_killed=killed, failure=scene.story.failure)
    return execution_id, verdict


async def _kill_half_way(processes: DemoProcesses, viewers: Viewers, screen: Screen) -> bool:
    """Kill the first gateway when half is seen; False when the execution ended before."""
    halfway = asyncio.create_task(viewers.halfway.wait())
    ended = asyncio.create_task(viewers.ending())
    try:
        while not halfway.done() and not ended.done():
            await asyncio.wait([halfway, ended], timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            processes.check(first_may_be_dead=False)
            _check_stall(viewers)
    finally:
        halfway.cancel()
        ended.cancel()
        await asyncio.wait([halfway, ended])
    if not viewers.halfway.is_set() or not viewers.on(processes.first_url):
        return False
    processes.first.kill()
    watching = viewers.expect_resumes(processes.first_url)
    code = await processes.first.wait()
    screen.note(f"gateway A (pid {processes.first.pid}) killed with SIGKILL; {watching} viewers were on it")
    return code < 0


async def _until_ended(processes: DemoProcesses, viewers: Viewers, screen: Screen, *, killed: bool) -> None:
    ended = asyncio.create_task(viewers.ending())
    started = time.monotonic()
    told = not killed
    try:
        while not ended.done():
            await asyncio.wait([ended], timeout=LOOK_SECONDS)
            if not told and viewers.resumed_at is not None:
                told = True
                screen.note(f"all of them resumed on gateway B within {viewers.resumed_at - started:.1f} s")
            processes.check(first_may_be_dead=killed)
            _check_stall(viewers)
        ended.result()
    finally:
        ended.cancel()
        await asyncio.wait([ended])


def _check_stall(viewers: Viewers) -> None:
    if time.monotonic() - viewers.last_news > STALL_SECONDS:
        raise CliError(f"no viewer has received anything for {STALL_SECONDS:g} s", ExitCode.RUN_FAILED)


async def _read_log(redis_url: str, execution_id: str) -> tuple[list[Fingerprint], str]:
    """From Redis itself, past all gateways."""
    log: list[Fingerprint] = []
    async with await open_bus(redis_url) as bus:
        position = Numbering.after(START)
        while True:
            page = await bus.log.read(execution_id, position)
            log += [
                fingerprint(item.id, item.type, item.step, item.ts, item.data)
                for item in page.items
                if isinstance(item, Entry)
            ]
            if not page.more:
                state = await bus.state(execution_id)
                return log, state.status if state is not None else "unknown"
            position = page.position


def _announce(verdict: Verdict, console: Console) -> None:
    if verdict.failure is None or verdict.gateway_killed:
        console.print(verdict_table(verdict), highlight=False)
    style = "bold green" if verdict.good else "bold red"
    console.print(verdict.sentence(), style=style, markup=False, highlight=False, soft_wrap=True)


async def _stay(processes: DemoProcesses, execution_id: str, console: Console) -> None:
    """Until Ctrl-C, which is then no failure."""
    urls = [processes.second_url]
    if not processes.first.running:
        with suppress(ChildError):
            port = int(processes.first_url.rpartition(":")[2])
            _, url = await start_gateway(processes.children, "gateway A again", processes.redis_url, port=port)
            urls.insert(0, url)
    console.print(
        *(f"gateway  {url}" for url in urls),
        f"redis    {processes.redis_url}",
        f"replay   curl -N {urls[0]}/v1/executions/{execution_id}/events",
        f"again    tailrace submit document path=$PWD/FILE pace_ms=50 --follow --gateway {urls[0]}",
        "Ctrl-C ends everything.",
        sep="\n",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    with suppress(asyncio.CancelledError):
        while True:
            processes.check(first_may_be_dead=True)
            await asyncio.sleep(LOOK_SECONDS)
