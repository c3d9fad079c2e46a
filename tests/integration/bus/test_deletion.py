"""Deleting executions that have ended."""

from __future__ import annotations

import pytest

from tailrace.bus import Bus, Event, ExecutionNotEndedError, ExecutionUnknownError, LeaseLostError
from tailrace.bus.errors import FenceStaleError
from tailrace.bus.model.codec import encode
from tests.integration.workers.test_subscribers_follow import Seen, following, handlers_of
from tests.integration.workers.watching import until, until_true

pytestmark = pytest.mark.anyio

TS = "2026-01-01T00:00:00.000000Z"


async def keys_of(bus: Bus, execution_id: str) -> list[bytes]:
    found: list[bytes] = await bus.commands.command("KEYS", f"{bus.settings.prefix}:*{execution_id}*")
    return found


async def test_attack_31_a_deleted_execution_leaves_nothing_and_its_id_can_be_used_again(bus: Bus) -> None:
    seen = Seen()
    async with following(bus, handlers_of(seen)):
        async with bus.execution("x", tenant="acme") as execution:
            await bus.control.signal("x", "go")
            await execution.signal("go")
            await execution.emit("custom.n", {"n": 1})
        await until(seen.ended("x"))
        await until_true(lambda: bus.commands.command("HEXISTS", bus.keys.bookmark("x", "billing"), "ended"))
    assert len(await keys_of(bus, "{x}")) == 5
    await bus.delete("x")
    assert [await bus.commands.command("HKEYS", key) for key in await keys_of(bus, "{x}")] == [[b"\x1fdeleted"]]
    assert await bus.index.newest(None) == await bus.index.newest("acme") == []
    with pytest.raises(ExecutionUnknownError):
        await bus.delete("x")
    async with bus.execution("x") as again:
        assert again.attempt == 1


async def test_an_owner_that_was_replaced_before_the_deletion_cannot_bring_the_execution_back(bus: Bus) -> None:
    await bus.submit("p", {}, execution_id="x")
    old = await bus.leases.take("x", "old", "p")
    await bus.leases.release(old)
    async with bus.execution("x"):
        pass
    await bus.delete("x")
    with pytest.raises(LeaseLostError):
        await bus.leases.renew(old, "running")
    with pytest.raises(FenceStaleError):
        await bus.log.append("x", [encode(Event("custom.late"), ts=TS)], producer="old", seq=1, fence=old.fence)
    with pytest.raises(FenceStaleError):
        await bus.checkpoints.store("x", "step", b"\xc0", fence=old.fence)
    with pytest.raises(ExecutionUnknownError):
        await bus.delete("x")
    # Nor once the id is used anew, by a submission that nobody has taken yet.
    await bus.submit("q", {}, execution_id="x")
    with pytest.raises(LeaseLostError):
        await bus.leases.renew(old, "running")
    taken = await bus.leases.take("x", "new", "q")
    assert (taken.attempt, taken.fence > old.fence, taken.status) == (1, True, "queued")
    with pytest.raises(FenceStaleError):
        await bus.log.append("x", [encode(Event("custom.late"), ts=TS)], producer="old", seq=1, fence=old.fence)
    assert (await bus.checkpoints.load("x"), (await bus.state("x")).status) == ({}, "queued")  # type: ignore[union-attr]


async def test_attack_31_what_has_not_ended_is_not_deleted(bus: Bus) -> None:
    async with bus.execution("running") as execution:
        await execution.append("custom.n")
        with pytest.raises(ExecutionNotEndedError, match=r"is running; only an ended one can be deleted: cancel it"):
            await bus.delete("running")
    await bus.submit("p", {}, execution_id="queued")
    with pytest.raises(ExecutionNotEndedError):
        await bus.delete("queued")
    assert await bus.state("queued") is not None
