"""Whatever owners, healers and those who cancel do, and in whatever order: one valid story, one ending, and always one.

Owners come and go by the scripts alone; healing is the real healer's. After each act the log must be one that the state
machine allows; at the end healers and one willing worker must bring every execution that ever began to its ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.bus.errors import (
    AppendRefusedError,
    ExecutionClosedError,
    FenceStaleError,
    LeaseHeldError,
    LeaseLostError,
    NotOrphanedError,
)
from tailrace.bus.healing.healer import Healer
from tailrace.bus.model.codec import encode
from tailrace.bus.model.event import Event
from tailrace.bus.ownership.lease import Lease, Orphan
from tests.conftest import ServerOfKind
from tests.faults.healing.story import check_story, read_story
from tests.servers import ServerKind

TS = "2026-01-01T00:00:00.000000Z"
OWNERS = ("w1", "w2")
BY_THE_OWNER = ("started", "paused", "resumed", "signalled", "retrying", "completed", "failed", "cancelled")
ROUNDS = 12

owned = st.tuples(st.sampled_from(OWNERS), st.sampled_from([*BY_THE_OWNER, "take", "renew", "release"]))
others = st.tuples(
    st.just(""),
    st.sampled_from(["submit", "expire", "heal", "heal and die", "cancel", "cancel at once", "pause", "resume"]),
)
# Most of what can go wrong comes after a beginning.
beginnings = st.sampled_from([
    [],
    [("", "submit")],
    [("w1", "take"), ("w1", "started")],
    [("", "submit"), ("w1", "take"), ("w1", "started")],
    [("", "submit"), ("w1", "take"), ("w1", "started"), ("", "expire"), ("", "heal")],
])  # fmt: skip
stories = st.builds(
    lambda beginning, rest: [*beginning, *rest],
    beginnings,
    st.lists(st.one_of(owned, others, others), min_size=4, max_size=24),
)


class Jobs:
    async def has_job(self, execution_id: str) -> bool:
        del execution_id
        return True

    async def requeue(self, execution_id: str) -> None: ...


@dataclass
class Play:
    bus: Bus
    run: str = field(default_factory=lambda: f"r{uuid4().hex}")
    leases: dict[str, Lease] = field(default_factory=dict)
    fence: int = 0

    def __post_init__(self) -> None:
        self.healer = Healer(
            name="healer",
            commands=self.bus.commands,
            keys=self.bus.keys,
            log=self.bus.log,
            leases=self.bus.leases,
            index=self.bus.index,
            counters=self.bus.counters,
            activity=self.bus.activity,
            gate=self.bus.gate,
            jobs=Jobs(),
        )

    async def act(self, owner: str, act: str) -> None:
        """Do one thing, which may be refused; what must not be is checked."""
        try:
            await self._act(owner, act)
        except (AppendRefusedError, LeaseHeldError, LeaseLostError, NotOrphanedError) as refusal:
            event(f"{act}: {type(refusal).__name__}")
        check_story(await read_story(self.bus, self.run), ended=await self.ended())

    async def _act(self, owner: str, act: str) -> None:
        meta = self.bus.keys.meta(self.run)
        match act:
            case "submit":
                await self.append("execution.queued")
                await self.bus.commands.command("HSET", meta, "submitted", "abc")
            case "take":
                self.leases[owner] = lease = await self.bus.leases.take(self.run, owner, max_attempts=2)
                self.risen(lease)
            case "renew" | "release" if owner in self.leases:
                await getattr(self.bus.leases, act)(self.leases[owner])
            case "expire":
                await self.expire()
            case "heal":
                await self.healer.heal(self.run)
            case "heal and die":
                orphan: Orphan = await self.bus.leases.heal(self.run, f"dead {uuid4().hex}")
                self.risen(orphan.lease)
            case "cancel":
                await self.append("execution.cancel_requested", {"grace_seconds": 3600})
            case "cancel at once":
                await self.append("execution.cancel_requested", {"grace_seconds": 0})
            case "pause" | "resume":
                await self.append(f"execution.{act}_requested")
            case _ if owner in self.leases:
                await self.append_as(self.leases[owner], f"execution.{act}")

    def risen(self, lease: Lease) -> None:
        assert lease.fence > self.fence
        self.fence = lease.fence

    async def append(self, event_type: str, data: Any = None, fence: int | None = None) -> None:
        await self.bus.log.append(self.run, [encode(Event(event_type, data), ts=TS)], fence=fence)

    async def append_as(self, lease: Lease, event_type: str) -> None:
        current = await self.bus.commands.command("HGET", self.bus.keys.meta(self.run), "fence")
        ended = await self.ended()
        try:
            await self.append(event_type, fence=lease.fence)
        except (ExecutionClosedError, FenceStaleError):
            assert ended or lease.fence < int(current)
            raise
        assert not ended
        assert lease.fence >= int(current)

    async def expire(self) -> None:
        if await self.bus.commands.command("HEXISTS", self.bus.keys.meta(self.run), "lease_until"):
            await self.bus.commands.command("HSET", self.bus.keys.meta(self.run), "lease_until", 1)

    async def ended(self) -> bool:
        state = await self.bus.state(self.run)
        return state is not None and state.ended

    async def bring_to_its_end(self) -> None:
        """All owners are dead; healers look at it in turn with a worker that does what it is given."""
        for _ in range(ROUNDS):
            await self.expire()
            await self.healer.heal(self.run)
            state = await self.bus.state(self.run)
            if state is None or state.ended:
                return
            if state.status == "unknown" and state.owner is None:
                # Nobody has said anything of it, and who had taken it, if anybody, has let go: it never began.
                return
            if state.status in {"queued", "paused"}:
                await self.act("w3", "take")
                for step in ("started", "resumed", "completed"):
                    await self.act("w3", step)
        raise AssertionError(f"not ended after {ROUNDS} rounds: {await self.bus.state(self.run)}")


@pytest.mark.parametrize("kind", ["valkey", "redis"])
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(acts=[("", "submit"), ("w1", "take"), ("w1", "started"), ("w1", "paused"), ("", "expire"), ("", "heal")])
@example(acts=[("w1", "take"), ("w1", "started"), ("w1", "retrying"), ("w1", "release"), ("", "cancel")])
@example(acts=[("w1", "take"), ("", "expire"), ("", "heal and die"), ("", "expire"), ("w2", "take"), ("w1", "started")])
@example(acts=[("", "submit"), ("w1", "take"), ("w1", "resumed")])
@example(acts=[("w1", "take"), ("w1", "release"), ("", "heal and die")])
@given(acts=stories)
def test_whatever_happens_it_is_one_valid_story_that_ends(
    server_of_kind: ServerOfKind, prefix: str, kind: ServerKind, acts: Sequence[tuple[str, str]]
) -> None:
    async def play() -> None:
        config = BusSettings(prefix=prefix, lease_seconds=600)
        async with await open_bus(server_of_kind(kind).url, settings=config) as bus:
            play = Play(bus)
            for owner, act in acts:
                await play.act(owner, act)
            await play.bring_to_its_end()
            story = await read_story(bus, play.run)
            check_story(story, ended=await play.ended())
            event(f"ended {story[-1].type if story else 'never began'}")

    asyncio.run(play())
