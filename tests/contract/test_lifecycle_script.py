"""append.lua obeys the state machine: whoever appends whatever, its status and its refusals are the pure ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import NamedTuple, get_args
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailrace.bus.errors import ExecutionClosedError, TransitionRefusedError
from tailrace.bus.log.log import Log
from tailrace.bus.model.codec import encode
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.event import LIFECYCLE_TYPES, TERMINAL_TYPES, Event
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.lifecycle import ENDED, Live
from tailrace.bus.model.retention import Retention
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.supervised import SupervisedConnection
from tests.conftest import ServerOfKind
from tests.follow_up import follow_up
from tests.servers import ServerKind

STATES: tuple[Live, ...] = get_args(Live)
TYPES = [*sorted(LIFECYCLE_TYPES), "token"]
ENDINGS = sorted(TERMINAL_TYPES)
FENCE = 3


class Append(NamedTuple):
    types: tuple[str, ...]
    owner: bool


def refused(status: str, event_type: str) -> str:
    """As callers are told: an execution without a state has the status that a GET shows."""
    return f"{'unknown' if status == 'none' else status} {event_type}"


class Model:
    """What the log should hold, and the status."""

    def __init__(self, status: Live = "none") -> None:
        self.status: str = status
        self.types: list[str] = []
        self.fenced = False

    def append(self, append: Append) -> str | None:
        """Take all of it, or nothing and say what refused it."""
        if self.status in ENDED:
            return "closed"
        # Until somebody had a fence, everybody is its owner.
        owner = append.owner or not self.fenced
        status = self.status
        for event_type in append.types:
            if event_type in LIFECYCLE_TYPES:
                after = follow_up(status, event_type, owner=owner)  # type: ignore[arg-type]
                if after is None:
                    return refused(status, event_type)
                status = after
        self.status = status
        self.types += append.types
        self.fenced = self.fenced or append.owner
        return None


async def append(log: Log, run: str, types: Sequence[str], *, owner: bool) -> str | None:
    events = [encode(Event(event_type, {}), ts="2026-01-01T00:00:00Z") for event_type in types]
    try:
        await log.append(run, events, fence=FENCE if owner else None)
    except ExecutionClosedError:
        return "closed"
    except TransitionRefusedError as refusal:
        return f"{refusal.status} {refusal.event_type}"
    return None


async def check(log: Log, line: SupervisedConnection, appends: Sequence[Append]) -> None:
    run, model = f"r{uuid4().hex}", Model()
    for each in appends:
        expected = model.append(each)
        assert await append(log, run, each.types, owner=each.owner) == expected
        status = await line.command("HGET", log.keys.meta(run), "status")
        assert (status or b"none").decode() == model.status
    raw = await line.command("XRANGE", log.keys.log(run), "-", "+")
    assert [fields[1].decode() for _, fields in raw] == model.types
    requests = await line.command("XRANGE", log.keys.control(run), "-", "+")
    asked = [(raw_id, fields[1]) for raw_id, fields in raw if fields[1].endswith(b"_requested")]
    assert [(fields[1], fields[3]) for _, fields in requests] == asked


batches = st.builds(
    lambda body, ending: (*body, *ending),
    st.lists(st.sampled_from([name for name in TYPES if name not in TERMINAL_TYPES]), max_size=4),
    st.sampled_from([(), (), (), *((ending,) for ending in ENDINGS)]),
).filter(bool)
stories = st.lists(st.builds(Append, batches, st.booleans()), min_size=1, max_size=12)


@pytest.mark.parametrize("kind", ["valkey", "redis"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(appends=stories)
def test_any_story_gives_the_status_and_the_refusals_of_the_pure_machine(
    server_of_kind: ServerOfKind, prefix: str, kind: ServerKind, appends: list[Append]
) -> None:
    async def tell() -> None:
        line = SupervisedConnection(dial_of(server_of_kind(kind).url), counters=Counters(), name="test")
        await line.connect()
        try:
            await check(Log(line, Keys(prefix), counters=Counters(), retention=Retention()), line, appends)
        finally:
            await line.aclose()

    asyncio.run(tell())


@pytest.mark.anyio
@pytest.mark.parametrize("owner", [True, False], ids=["owner", "anybody"])
async def test_every_cell_of_the_table_is_obeyed(line: SupervisedConnection, keys: Keys, owner: bool) -> None:
    log = Log(line, keys, counters=Counters(), retention=Retention())
    for index, (state, event_type) in enumerate(itertools.product(STATES, sorted(LIFECYCLE_TYPES))):
        run = f"run{index}"
        known = () if state == "none" else ("status", state)
        await line.command("HSET", keys.meta(run), "fence", FENCE, *known)
        after = follow_up(state, event_type, owner=owner)
        refusal = await append(log, run, [event_type], owner=owner)
        assert refusal == (None if after is not None else refused(state, event_type)), (state, event_type)
        status = await line.command("HGET", keys.meta(run), "status")
        assert (status or b"none").decode() == (after or state)
        assert int(await line.command("XLEN", keys.log(run))) == (after is not None)


@pytest.mark.anyio
async def test_of_a_refused_batch_nothing_is_written(line: SupervisedConnection, keys: Keys) -> None:
    log = Log(line, keys, counters=Counters(), retention=Retention())
    assert await append(log, "run", ["execution.started", "token"], owner=True) is None
    assert await append(log, "run", ["token", "execution.paused", "execution.queued"], owner=True) is not None
    raw = await line.command("XRANGE", keys.log("run"), "-", "+")
    assert [fields[1] for _, fields in raw] == [b"execution.started", b"token"]
    assert await line.command("HGET", keys.meta("run"), "status") == b"running"


@pytest.mark.anyio
@pytest.mark.parametrize("broken", ["finished", "", "queued*", "none", "running|execution.paused", "completed"])
async def test_a_status_that_a_stranger_wrote_counts_as_none(
    line: SupervisedConnection, keys: Keys, broken: str
) -> None:
    """An ending too: only the entry that closed the log is one, and no owner is refused for a word."""
    log = Log(line, keys, counters=Counters(), retention=Retention())
    await line.command("HSET", keys.meta("run"), "status", broken)
    assert await append(log, "run", ["execution.queued"], owner=False) is None
    assert await line.command("HGET", keys.meta("run"), "status") == b"queued"
