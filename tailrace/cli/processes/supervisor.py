"""Several processes of one gateway or worker: started, kept alive, replaced and stopped together.

SIGTERM         each is sent SIGTERM: gateways one after the other, so that the port is served until the last; workers
                all at once, so that none takes what another hands on
SIGINT          the same, without waiting for viewers and executions; so does a second signal
SIGHUP          each is replaced: its successor is ready before it is told to stop
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tailrace.bus.ops.service_manager import tell, watched
from tailrace.bus.ops.stop_signals import obeying
from tailrace.bus.ops.supervised import announce
from tailrace.cli.errors import CliError
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.processes.children import READY_SECONDS, ending_of
from tailrace.cli.processes.deaths import DEATHS_SECONDS, MAX_DEATHS, Deaths
from tailrace.cli.processes.member import Member
from tailrace.cli.processes.parent_pipe import ParentPipe
from tailrace.cli.processes.totals import Page, Totals

T = TypeVar("T")
logger = logging.getLogger(__name__)

# What was counted since then is lost when a process is killed.
COLLECT_SECONDS: Final = 5.0
BACKOFF_SECONDS: Final = 0.25
MAX_BACKOFF_SECONDS: Final = 10.0
QUICK_SECONDS: Final = 5.0
ORPHAN_SECONDS: Final = 6.0


@dataclass(frozen=True, slots=True)
class Plan:
    """``environment`` is by a process's number; ``stop_seconds`` is what one has to end before it is killed."""

    what: str
    count: int
    arguments: Sequence[str]
    stop_seconds: float
    in_turn: bool
    environment: Callable[[int], Mapping[str, str]] = field(default=lambda _number: {})


class Supervisor:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._pipe = ParentPipe(ORPHAN_SECONDS)
        self._seats = [Seat(self) for _ in range(plan.count)]
        self._numbers: set[int] = set()
        self._members: dict[int, Member] = {}
        self._totals = Totals()
        self._stopping = asyncio.Event()
        self._quick = asyncio.Event()
        self._rolling = asyncio.Event()
        self._deaths = 0
        self._rolls = {"done": 0, "given up": 0}
        self._terminal = _terminal_there()

    async def run(self, *details: str) -> None:
        """Until told to stop. ``details`` are shown when all are ready. Raises CliError."""
        async with watched():
            await self._run(details)

    async def _run(self, details: Sequence[str]) -> None:
        with obeying(self._obey):
            working = asyncio.create_task(self._work(details))
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (working, stopping):
                    task.cancel()
                await asyncio.wait([working, stopping])
                await self._end_all()
                self._pipe.close()
        if not working.cancelled() and (error := working.exception()) is not None:
            raise error
        logger.info("%s: stopped", self.plan.what)

    async def metrics(self) -> list[Metric]:
        members = [member for member in self._members.values() if member.ready.done()]
        answered = await asyncio.gather(*(member.asked_for_metrics() for member in members))
        page = self._totals.page({member.number: member.metrics for member in members})
        return [*page, *self._own({member.number: up for member, up in zip(members, answered, strict=True)})]

    async def start(self) -> Member:
        """A process that is ready. Raises NotReadyError."""
        number = next(number for number in range(len(self._numbers) + 1) if number not in self._numbers)
        self._numbers.add(number)
        environment = {"TAILRACE_PROCESSES": "1", **self.plan.environment(number)}
        arguments = [*self.plan.arguments, "--processes", "1"]
        member = await Member.start(number, arguments, environment, self._pipe, self._metrics_text)
        self._members[number] = member
        member.ended.add_done_callback(lambda _: self._forget(member))
        try:
            problem = await member.became_ready(READY_SECONDS)
        except asyncio.CancelledError:
            member.signal(signal.SIGKILL)
            raise
        if problem is not None:
            member.signal(signal.SIGKILL)
            raise NotReadyError(f"process {number} {problem}", await member.wait())
        logger.info("%s: process %d is ready (pid %d)", self.plan.what, number, member.pid)
        return member

    def died(self, member: Member, code: int) -> None:
        self._deaths += 1
        logger.error("%s: process %d (pid %d) %s", self.plan.what, member.number, member.pid, ending_of(code))

    async def drained(self, member: Member) -> None:
        """Return when it has ended: in order, by a second signal, or killed when it took too long."""
        member.signal(signal.SIGTERM)
        quick = asyncio.create_task(self._quick.wait())
        await asyncio.wait([member.ended, quick], timeout=self.plan.stop_seconds, return_when=asyncio.FIRST_COMPLETED)
        quick.cancel()
        if member.running:
            # Another signal than the first: two of a kind may arrive as one.
            member.signal(signal.SIGINT)
            await asyncio.wait([member.ended], timeout=QUICK_SECONDS)
        if member.running:
            logger.error("%s: process %d did not end in time; killing it", self.plan.what, member.number)
            member.signal(signal.SIGKILL)
        logger.info("%s: process %d %s, as told", self.plan.what, member.number, ending_of(await member.wait()))

    def _obey(self, order: signal.Signals) -> None:
        if order == signal.SIGHUP and self._terminal == _terminal_there():
            self._rolling.set()
            return
        if self._stopping.is_set() or order == signal.SIGINT:
            self._quick.set()
        tell("STOPPING=1")
        self._stopping.set()

    async def _work(self, details: Sequence[str]) -> None:
        [(what, of_one), *_] = await _together(seat.fill() for seat in self._seats)
        announce(what, *of_one, f"{self.plan.count} processes", *details)
        await _together([self._roll_when_told(), self._collect(), *(seat.keep() for seat in self._seats)])

    async def _roll_when_told(self) -> None:
        while True:
            await self._rolling.wait()
            self._rolling.clear()
            logger.info("%s: rolling restart of %d processes", self.plan.what, self.plan.count)
            try:
                for seat in self._seats:
                    await seat.replace()
            except NotReadyError as error:
                self._rolls["given up"] += 1
                logger.error("%s: rolling restart given up: %s; the old process keeps running", self.plan.what, error)  # noqa: TRY400 - nobody needs a traceback
            else:
                self._rolls["done"] += 1
                logger.info("%s: rolling restart done", self.plan.what)

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(COLLECT_SECONDS)
            await self.metrics()

    def _forget(self, member: Member) -> None:
        del self._members[member.number]
        self._numbers.discard(member.number)
        self._totals.end(member.number, member.metrics)

    async def _end_all(self) -> None:
        members = list(self._members.values())
        if self.plan.in_turn:
            for member in members:
                if not self._quick.is_set():
                    await self.drained(member)
        await asyncio.gather(*(self.drained(member) for member in members if member.running))

    async def _metrics_text(self) -> bytes:
        return Page(await self.metrics()).text()

    def _own(self, answered: Mapping[int, bool]) -> list[Metric]:
        up = GaugeMetricFamily(
            "tailrace_process_up",
            "0 for a process that does not answer; its last figures are shown",
            labels=["process"],
        )
        for number, answers in answered.items():
            up.add_metric([str(number)], int(answers))
        rolls = CounterMetricFamily("tailrace_rolling_restarts", "Rolling restarts (SIGHUP)", labels=["outcome"])
        for outcome, count in self._rolls.items():
            rolls.add_metric([outcome], count)
        return [
            up,
            rolls,
            GaugeMetricFamily("tailrace_processes", "Processes that there should be", self.plan.count),
            CounterMetricFamily("tailrace_process_deaths", "Processes that ended without being told to", self._deaths),
        ]


class NotReadyError(Exception):
    def __init__(self, what: str, code: int) -> None:
        super().__init__(what)
        self.code = code


class Seat:
    """One process after the other."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._member: Member
        self._changing = asyncio.Lock()
        self._deaths = Deaths()

    async def fill(self) -> tuple[str, Sequence[str]]:
        """What the first process announced. Raises CliError with its exit code when it does not become ready."""
        try:
            self._member = await self._supervisor.start()
        except NotReadyError as error:
            code = ExitCode(error.code) if error.code in set(ExitCode) else ExitCode.RUN_FAILED
            raise CliError(f"{error}; see what it said above", code) from None
        return self._member.ready.result()

    async def keep(self) -> None:
        """Start another one whenever it dies. Raises CliError when that happens again and again."""
        while True:
            member = self._member
            code = await member.wait()
            async with self._changing:
                if self._member is member:
                    self._supervisor.died(member, code)
                    self._member = await self._another(ending_of(code))

    async def replace(self) -> None:
        """Raises NotReadyError, and leaves the old one running, when the new one does not become ready."""
        async with self._changing:
            old, self._member = self._member, await self._supervisor.start()
            await self._supervisor.drained(old)

    async def _another(self, how: str) -> Member:
        waited_for_redis = 0
        while True:
            if not waited_for_redis and self._deaths.too_many():
                raise CliError(
                    f"a process of this {self._supervisor.plan.what} has died {MAX_DEATHS} times within "
                    f"{DEATHS_SECONDS:g} s, the last time it {how}; the others are stopped. See its output above",
                    ExitCode.RUN_FAILED,
                )
            tries = self._deaths.lately + waited_for_redis
            await asyncio.sleep(min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2**tries))
            try:
                return await self._supervisor.start()
            except NotReadyError as error:
                how = ending_of(error.code)
                # It cannot start while Redis is away, and the others wait for Redis as well.
                waited_for_redis = waited_for_redis + 1 if error.code == ExitCode.BUS else 0
                logger.warning("%s: %s; starting another", self._supervisor.plan.what, error)


async def _together(works: Iterable[Coroutine[object, object, T]]) -> list[T]:
    """Raises what the first one raises, once the others were cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _terminal_there() -> bool:
    """SIGHUP of a terminal that was closed is an order to stop, not to restart."""
    with contextlib.suppress(OSError):
        os.ttyname(2)
        return True
    return False
