"""A world in which executions are lived through by the real scripts, a command at a time, and anybody may die at any.

Processes are buses over one connection; one that is to die after its n-th command stops there, before the command or
behind it, and whatever it would still have done is not done. Time does not pass by itself: who steps the clock sets
what was written of it in Redis back instead.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tailrace.bus import Bus, BusSettings
from tailrace.bus.deployment import Standalone
from tailrace.bus.errors import BusError
from tailrace.bus.jobs.queue import Job
from tailrace.bus.model.codec import encode
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.event import Event
from tailrace.bus.model.state import State
from tailrace.bus.ownership.lease import Lease
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.commands import Commands

TS = "2026-01-01T00:00:00.000000Z"
QUEUE = "life"
MOST_ATTEMPTS = 2
# Of a lease; steps of the clock are shorter or longer.
LEASE_SECONDS = 600
ROUNDS = 40
# Deadlines that stand in Redis as Unix milliseconds, in fields of an execution's state.
_TIMES = ("lease_until", "not_before", "start_by", "deadline")
_STEP = """
local ms = tonumber(ARGV[1])
for index = 1, #KEYS - 2 do
  for argument = 2, #ARGV do
    local value = redis.call('HGET', KEYS[index], ARGV[argument])
    if value then redis.call('HSET', KEYS[index], ARGV[argument], string.format('%.0f', math.max(1, value - ms))) end
  end
end
for index = #KEYS - 1, #KEYS do
  for _, member in ipairs(redis.call('ZRANGE', KEYS[index], 0, -1)) do
    redis.call('ZINCRBY', KEYS[index], -ms, member)
  end
end
"""


class Died(asyncio.CancelledError):
    """As the end of a process: nothing can catch it to go on."""


class Mortal:
    """Commands of one process, which may die at any of them."""

    def __init__(self, inner: Commands) -> None:
        self._inner = inner
        self.commands_left: int | None = None
        self.behind = False
        self.deaths = 0
        # What happens to Redis before which command.
        self.commands_until_mishap = 0
        self.mishap: Callable[[], Awaitable[object]] | None = None

    async def command(self, *command: bytes | str | float) -> Any:
        if self.commands_left == 0:
            raise Died
        if self.mishap is not None:
            self.commands_until_mishap -= 1
            if self.commands_until_mishap == 0:
                mishap, self.mishap = self.mishap, None
                deaths = self.deaths
                await mishap()
                if self.deaths != deaths:
                    # It died meanwhile, over another command that was under way: the dead send nothing.
                    raise Died
        if self.commands_left is not None:
            self.commands_left -= 1
            if self.commands_left == 0:
                if self.behind:
                    await self._inner.command(*command)
                raise Died
        return await self._inner.command(*command)

    async def aclose(self) -> None: ...


@dataclass
class Process:
    name: str
    bus: Bus
    mortal: Mortal
    # What it holds, as a worker.
    jobs: dict[str, Job] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    told: int = 0

    def forget(self) -> None:
        """It is another process from now on, of the same name."""
        self.jobs.clear()
        self.leases.clear()
        self.mortal.commands_left = None
        self.mortal.deaths += 1


@dataclass
class World:
    line: Commands
    processes: dict[str, Process]
    ids: tuple[str, ...]
    # Submissions that were acknowledged, since Redis lost anything of them.
    submitted: set[str] = field(default_factory=set)
    # Cursors of appends that were acknowledged, by execution and in their order, since then.
    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    # Those of them that ask its owner for something.
    asked: dict[str, list[str]] = field(default_factory=dict)
    # How often attempts were handed back, which costs none.
    handed_back: Counter[str] = field(default_factory=Counter)
    # Of which Redis has lost something: the log and its state may disagree.
    hurt: set[str] = field(default_factory=set)
    # How often that was.
    losses: Counter[str] = field(default_factory=Counter)

    @classmethod
    async def begin(cls, url: str, prefix: str) -> World:
        counters = Counters()
        deployment = Standalone(dial_of(url), counters)
        line = await deployment.open_line("life")
        processes = {}
        for name in ("client", "w1", "w2", "h1", "h2"):
            mortal = Mortal(line)
            settings = BusSettings(prefix=prefix, lease_seconds=LEASE_SECONDS)
            bus = Bus(settings, mortal, counters=Counters(), deployment=deployment)
            # The activity is told in the background; here only what is awaited happens.
            bus.log.on_lifecycle = None
            bus.gate.is_open = _always  # type: ignore[method-assign]
            processes[name] = Process(name, bus, mortal)
        world = cls(line, processes, ("a", "b"))
        await world.flush()
        world.hurt.clear()
        world.losses.clear()
        await processes["w1"].bus.jobs.queues.open(QUEUE)
        return world

    async def end(self) -> None:
        for process in self.processes.values():
            process.mortal.commands_left = 0
            await process.bus.activity.aclose()
        await self.line.aclose()

    async def act(
        self,
        name: str,
        what: Awaitable[None],
        *,
        dies_after: int | None,
        behind: bool,
        mishap: tuple[int, Callable[[], Awaitable[object]]] | None = None,
    ) -> str:
        """Let a process do one thing, and perhaps die over it. Gives what came of it.

        ``mishap`` is what happens to Redis on the way: before which of its commands, and what.
        """
        process = self.processes[name]
        process.mortal.commands_left, process.mortal.behind = dies_after, behind
        if mishap is not None:
            process.mortal.commands_until_mishap, process.mortal.mishap = mishap
        try:
            await what
        except asyncio.CancelledError:
            # Gathering makes another one of it.
            process.forget()
            return "died"
        except BusError as error:
            return type(error).__name__
        finally:
            process.mortal.commands_left = process.mortal.mishap = None
        return "done"

    # The client

    async def submit(self, run: str, *, delayed: bool = False) -> None:
        await self.processes["client"].bus.submit(
            "life", {}, execution_id=run, queue=QUEUE, max_attempts=MOST_ATTEMPTS, delay_seconds=60 if delayed else 0
        )
        if run not in self.hurt:
            self.submitted.add(run)

    def acknowledge(self, run: str, cursor: str, losses: int) -> bool:
        """Note what was answered to have been written, if Redis has lost nothing of it since ``losses`` was read."""
        if self.losses[run] != losses:
            return False
        self.acknowledged.setdefault(run, []).append(cursor)
        return True

    async def ask(self, run: str, what: str) -> None:
        control = self.processes["client"].bus.control
        losses = self.losses[run]
        match what:
            case "cancel":
                outcome = await control.cancel(run, grace_seconds=0)
            case "pause":
                outcome = await control.pause(run)
            case "resume":
                outcome = await control.resume(run)
            case _:
                outcome = await control.signal(run, "go")
        if self.acknowledge(run, outcome.request, losses):
            self.asked.setdefault(run, []).append(outcome.request)

    async def delete(self, run: str) -> None:
        there = bool(await self.keys_of(run))
        try:
            await self.processes["client"].bus.delete(run)
            assert not await self.keys_of(run), "a deleted execution has left keys"
        finally:
            # Who dies over it may have deleted it.
            if there and not await self.keys_of(run):
                self.forget(run)

    def forget(self, run: str) -> None:
        """Nothing is promised of it any more."""
        self.submitted.discard(run)
        self.acknowledged.pop(run, None)
        self.asked.pop(run, None)
        del self.handed_back[run]

    # Workers, as attempts do it

    async def take(self, worker: Process, *, claimed: bool = False) -> None:
        queues = worker.bus.jobs.queues
        await worker.bus.jobs.move_due(QUEUE, count=10)
        if claimed:
            # Idle time cannot be set back: the caller says that the holders are gone.
            jobs, _ = await queues.claim(QUEUE, worker.name, idle_seconds=0, count=10)
        else:
            jobs = await queues.take([QUEUE], worker.name, count=1)
        for job in jobs:
            if isinstance(job, Job):
                worker.jobs[job.execution_id] = job
                await self.begin_attempt(worker, job)

    async def begin_attempt(self, worker: Process, job: Job) -> None:
        bus, run = worker.bus, job.execution_id
        submission = await bus.jobs.submission_of(run)
        if submission is None:
            await bus.dead_letters.add_unknown(QUEUE, run)
            await self.let_go(worker, run)
            return
        history = await bus.jobs.history_of(run)
        if await bus.jobs.put_off(run, history.not_before_ms):
            await self.let_go(worker, run)
            return
        if history.attempts >= MOST_ATTEMPTS:
            await bus.healer.heal(run)
        try:
            # An owner of its own, each time.
            worker.told += 1
            lease = await bus.leases.take(run, f"{worker.name}.{worker.told}", "life", max_attempts=MOST_ATTEMPTS)
        except BusError:
            await self.settle(worker, run)
            return
        worker.leases[run] = lease
        if lease.status == "cancelling":
            await self.tell(worker, run, "execution.cancelled")
            await self.settle(worker, run)
        elif lease.attempt > MOST_ATTEMPTS:
            await self.tell(worker, run, "execution.failed", {"reason": "worker_lost", "message": "too often"})
            await self.settle(worker, run)
        else:
            await self.tell(worker, run, "execution.started", {"attempt": lease.attempt})

    async def tell(self, worker: Process, run: str, kind: str, data: Any = None) -> None:
        lease, losses = worker.leases[run], self.losses[run]
        worker.told += 1
        known = await self.line.command("HMGET", worker.bus.keys.meta(run), "fence", "secret")
        appended = await worker.bus.log.append(
            run, [encode(Event(kind, data), ts=TS)], producer=f"{lease.owner}.{worker.told}", seq=1, fence=lease.fence
        )
        if run not in self.hurt:
            mine = [str(int(lease.fence)).encode(), lease.fence.secret.encode()]
            assert known == mine, f"{run}: {lease.owner} with {mine} appended to what is owned by {known}"
        self.acknowledge(run, str(appended.last), losses)

    async def renew(self, worker: Process, run: str) -> None:
        await worker.bus.leases.renew(worker.leases[run], "running")

    async def end_attempt(self, worker: Process, run: str, how: str) -> None:
        lease = worker.leases[run]
        if how == "hand back":
            self.handed_back[run] += 1
            await worker.bus.jobs.uncount_attempt(run, fence=lease.fence)
        if how in {"retry", "hand back"}:
            await self.tell(worker, run, "execution.retrying", {"attempt": lease.attempt, "reason": "x"})
        else:
            await self.tell(worker, run, f"execution.{how}", {"reason": "x", "message": "x"})
        await worker.bus.leases.release(lease)
        del worker.leases[run]
        if how in {"retry", "hand back"}:
            await worker.bus.jobs.requeue(run)
            await self.let_go(worker, run)
        else:
            await self.settle(worker, run)

    async def settle(self, worker: Process, run: str) -> None:
        state = await worker.bus.state(run)
        if state is None or state.ended:
            if state is not None:
                await worker.bus.dead_letters.bury(state, retried=False)
            await self.let_go(worker, run)

    async def let_go(self, worker: Process, run: str) -> None:
        job = worker.jobs.pop(run, None)
        if job is not None:
            await worker.bus.jobs.queues.acknowledge(job)

    # Healers

    async def heal(self, healer: Process) -> None:
        for run in await healer.bus.index.claim_due(10, 1000):
            await healer.bus.healer.heal(run)

    async def look_after(self, healer: Process) -> None:
        """As a gateway does with what is watched."""
        await healer.bus.healer.look_after(self.ids)

    # Redis

    async def flush(self) -> None:
        prefix = self.processes["client"].bus.keys.prefix
        keys = await self.line.command("KEYS", f"{prefix}:*")
        if keys:
            await self.line.command("DEL", *keys)
        for run in self.ids:
            self.lose(run)

    def lose(self, run: str) -> None:
        self.hurt.add(run)
        self.losses[run] += 1
        self.forget(run)

    async def evict(self, number: int) -> str:
        """One key, whichever."""
        prefix = self.processes["client"].bus.keys.prefix
        keys = sorted(await self.line.command("KEYS", f"{prefix}:*"))
        if not keys:
            return "nothing"
        key = keys[number % len(keys)].decode()
        await self.line.command("DEL", key)
        for run in self.ids:
            if f"{{{run}}}" in key:
                self.lose(run)
        return str(key.rpartition(":")[2])

    async def step_clock(self, seconds: float) -> None:
        """Forward: what stands in Redis is that much older."""
        keys = self.processes["client"].bus.keys
        states = [keys.meta(run) for run in self.ids]
        # At once: another command of the process whose act this falls into may be under way.
        await self.line.command(
            "EVAL", _STEP, len(states) + 2, *states, keys.due(), keys.delayed_jobs(QUEUE), int(seconds * 1000), *_TIMES
        )

    # What must be true

    async def keys_of(self, run: str) -> list[bytes]:
        """All but the mark that it was deleted."""
        keys = self.processes["client"].bus.keys
        there = set(await self.line.command("KEYS", f"{keys.prefix}:{{{run}}}*"))
        if await self.line.command("HKEYS", keys.checkpoints(run)) == [b"\x1fdeleted"]:
            there.discard(keys.checkpoints(run).encode())
        return sorted(there)

    async def log_of(self, run: str) -> list[tuple[str, str]]:
        raw = await self.line.command("XRANGE", self.processes["client"].bus.keys.log(run), "-", "+")
        return [
            (entry_id.decode(), dict(zip(each[::2], each[1::2], strict=True))[b"t"].decode()) for entry_id, each in raw
        ]

    async def state_of(self, run: str) -> State | None:
        process = self.processes["client"]
        process.mortal.commands_left = None
        return await process.bus.state(run)

    async def check(self) -> None:
        for run in self.ids:
            log, state = await self.log_of(run), await self.state_of(run)
            ids = [cursor for cursor, _ in log]
            acknowledged = self.acknowledged.get(run, [])
            for cursor in acknowledged:
                assert ids.count(cursor) == 1, f"{run}: the acknowledged {cursor} is there {ids.count(cursor)} times"
            assert [each for each in ids if each in acknowledged] == acknowledged, f"{run}: not in order"
            endings = [number for number, (_, kind) in enumerate(log) if kind in ENDINGS]
            if run in self.hurt:
                continue
            assert endings in ([], [len(log) - 1]), f"{run}: endings at {endings} of {len(log)}"
            if endings:
                assert state is not None, f"{run}: ended, and has no state"
                assert f"execution.{state.status}" == log[-1][1], f"{run}: {state.status} by its state, {log[-1]}"
            kinds = [kind for _, kind in log]
            begun = kinds.count("execution.started")
            assert begun <= MOST_ATTEMPTS + self.handed_back[run], f"{run}: begun {begun} times"
            if "execution.cancel_requested" in kinds:
                rest = kinds[kinds.index("execution.cancel_requested") :]
                assert "execution.started" not in rest, f"{run}: begun again after it was cancelled"
            control = await self.line.command("XRANGE", self.processes["client"].bus.keys.control(run), "-", "+")
            reaching = {dict(zip(each[::2], each[1::2], strict=True))[b"r"].decode() for _, each in control}
            unheard = set(self.asked.get(run, ())) - reaching
            assert not unheard, f"{run}: no owner will see the acknowledged requests {unheard}"
            assert state is not None or run not in self.submitted, f"{run}: submitted and gone"

    async def bring_to_its_end(self) -> None:
        """All workers are dead; from now on everybody does what he should, and time passes."""
        for process in self.processes.values():
            process.forget()
        worker, healer = self.processes["w2"], self.processes["h2"]
        await worker.bus.jobs.queues.open(QUEUE)
        # The ids of a log cannot be set back: that a lease's time has passed since the last is said here.
        healer.bus.leases.lease_seconds = 0.001
        for _ in range(ROUNDS):
            await self.step_clock(LEASE_SECONDS + 1)
            await self.look_after(healer)
            await self.heal(healer)
            for claimed in (True, False):
                await self.take(worker, claimed=claimed)
                for run in list(worker.leases):
                    try:
                        await self.end_attempt(worker, run, "completed")
                    except BusError:
                        worker.leases.pop(run, None)
                        await self.settle(worker, run)
            if await self._is_over():
                return
        states = [await self.state_of(run) for run in self.ids]
        jobs = await self.line.command("XLEN", worker.bus.keys.jobs(QUEUE))
        raise AssertionError(f"not over after {ROUNDS} rounds: {states}, {jobs} jobs")

    async def _is_over(self) -> bool:
        for run in self.ids:
            state = await self.state_of(run)
            if run in self.submitted and state is None:
                raise AssertionError(f"{run}: submitted and gone")
            # Of one that nobody said anything of, and that nobody holds, nothing is to come.
            if state is not None and not state.ended and not (state.status == "unknown" and state.submitted is None):
                return False
        keys = self.processes["w2"].bus.keys
        return not await self.line.command("XLEN", keys.jobs(QUEUE))

    async def check_end(self) -> None:
        prefix = self.processes["client"].bus.keys.prefix
        keys = await self.line.command("KEYS", f"{prefix}:*")
        lasting = [
            key
            for key in keys
            # What is a queue's or everybody's is bounded in entries.
            if key.partition(b":")[2].startswith((b"{a}", b"{b}", b"index:"))
            and await self.line.command("TTL", key) == -1
        ]
        assert not lasting, f"keys that never expire: {lasting}"
        for run in self.submitted:
            state = await self.state_of(run)
            assert state is not None, f"{run}: submitted and gone"
            assert state.ended, f"{run}: submitted and {state.status} for ever"


ENDINGS = {f"execution.{how}" for how in ("completed", "failed", "cancelled", "timed_out")}


async def _always(redis_ms: int | None = None) -> bool:
    del redis_ms
    return True
