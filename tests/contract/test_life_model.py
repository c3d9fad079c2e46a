"""The whole life of executions, by the real scripts, while anybody may die at any command and Redis may lose anything.

Longer than in the suite: ``TAILRACE_LIFE_SECONDS=3600 pytest -s tests/contract/test_life_model.py``.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from tests.contract.life import LEASE_SECONDS, World
from tests.servers import RunningServer

SECONDS = float(os.environ.get("TAILRACE_LIFE_SECONDS", "0"))
EXAMPLES = 50


@dataclass(frozen=True)
class Act:
    who: str
    what: str
    run: str = "a"
    number: int = 0
    # Dies at its n-th command, or not at all.
    dies_after: int | None = None
    behind: bool = False
    # What happens to Redis on the way, before the command of that number.
    mishap: str | None = None
    mishap_at: int = 1


deaths = st.one_of(st.none(), st.none(), st.none(), st.integers(1, 12))
runs = st.sampled_from(["a", "a", "b"])


def acts_of(who: Sequence[str], what: Sequence[str], mishaps: Sequence[str] = ()) -> st.SearchStrategy[Act]:
    return st.builds(
        Act,
        who=st.sampled_from(who),
        what=st.sampled_from(what),
        run=runs,
        number=st.integers(0, 30),
        dies_after=deaths,
        behind=st.booleans(),
        mishap=st.sampled_from([None, None, None, *mishaps]),
        mishap_at=st.integers(1, 10),
    )


CLIENT = ["submit", "submit", "submit delayed", "cancel", "pause", "resume", "signal", "delete"]
WORK = ["take", "take", "claim", "tell", "renew", "paused", "resumed", "completed", "failed", "cancelled", "retry"]
SUBMIT, TAKE, PASS, LOOK = Act("client", "submit"), Act("w1", "take"), Act("redis", "forward"), Act("h1", "look after")
# Most of what can go wrong comes after a beginning: it is taken, it has lost its owner, it has another one.
beginnings = st.sampled_from([
    [SUBMIT],
    [SUBMIT, TAKE],
    [SUBMIT, TAKE, PASS],
    [SUBMIT, TAKE, PASS, LOOK],
    [SUBMIT, TAKE, PASS, LOOK, Act("w2", "take")],
])  # fmt: skip
steps = ["forward", "a little", "back"]


def lives_of(mishaps: Sequence[str]) -> st.SearchStrategy[list[Act]]:
    """What can happen to Redis happens between two acts, and between any two commands of one."""
    clients = acts_of(["client"], CLIENT, mishaps)
    workers = acts_of(["w1", "w2"], [*WORK, "hand back", "forget"], mishaps)
    healers = acts_of(["h1", "h2"], ["heal", "look after"], mishaps)
    acts = st.one_of(clients, workers, workers, workers, healers, acts_of(["redis"], mishaps))
    return st.builds(lambda beginning, rest: [*beginning, *rest], beginnings, st.lists(acts, min_size=12, max_size=30))


# Of what Redis has lost less is promised, so half of the lives have no losses.
whole = lives_of(steps)
lives = lives_of([*steps, "flush", "evict", "evict"])


async def live(url: str, prefix: str, acts: Sequence[Act]) -> None:
    world = await World.begin(url, prefix)
    try:
        for act in acts:
            event(f"{act.what}: {await _do(world, act)}")
            await world.check()
        await world.bring_to_its_end()
        await world.check()
        await world.check_end()
    finally:
        await world.end()


async def _do(world: World, act: Act) -> str:
    process = world.processes.get(act.who)
    if process is None:
        return await _happen(world, act.what, act.number)
    match act.what:
        case "submit" | "submit delayed":
            what = world.submit(act.run, delayed=act.what.endswith("delayed"))
        case "cancel" | "pause" | "resume" | "signal":
            what = world.ask(act.run, act.what)
        case "delete":
            what = world.delete(act.run)
        case "take" | "claim":
            what = world.take(process, claimed=act.what == "claim")
        case "heal":
            what = world.heal(process)
        case "look after":
            what = world.look_after(process)
        case "forget":
            process.forget()
            return ""
        case _ if act.run not in process.leases:
            return "not its own"
        case "tell":
            what = world.tell(process, act.run, "custom.told")
        case "paused" | "resumed":
            what = world.tell(process, act.run, f"execution.{act.what}")
        case "renew":
            what = world.renew(process, act.run)
        case _:
            what = world.end_attempt(process, act.run, act.what)
    mishap = None if act.mishap is None else (act.mishap_at, functools.partial(_happen, world, act.mishap, act.number))
    return await world.act(act.who, what, dies_after=act.dies_after, behind=act.behind, mishap=mishap)


async def _happen(world: World, what: str, number: int) -> str:
    match what:
        case "flush":
            await world.flush()
        case "evict":
            return await world.evict(number)
        case "forward":
            await world.step_clock(LEASE_SECONDS + 1)
        case "a little":
            await world.step_clock(70)
        case "back":
            await world.step_clock(-LEASE_SECONDS / 2)
    return ""


def test_an_execution_that_loses_nothing_in_redis_ends_once_whoever_dies(
    fresh_server: RunningServer, prefix: str
) -> None:
    _run(fresh_server, prefix, whole)


def test_an_execution_that_redis_has_lost_parts_of_ends_or_is_gone(fresh_server: RunningServer, prefix: str) -> None:
    _run(fresh_server, prefix, lives)


def _run(server: RunningServer, prefix: str, strategy: st.SearchStrategy[list[Act]]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not SECONDS,
        phases=[Phase.generate],
    )
    @given(acts=strategy)
    def lived(acts: Sequence[Act]) -> None:
        count[0] += 1
        try:
            asyncio.run(live(server.url, prefix, acts))
        except Exception as error:
            error.add_note("\n".join(map(str, acts)))
            raise

    until = time.monotonic() + SECONDS / 2
    count = [0]
    lived()
    while time.monotonic() < until:
        # Other ones each time.
        lived()
    print(f"{count[0]} lives")
