"""Deleting executions that have ended."""

from __future__ import annotations

import pytest

from tailrace.bus import Bus, ExecutionNotEndedError, ExecutionUnknownError
from tests.integration.workers.test_subscribers_follow import Seen, following, handlers_of
from tests.integration.workers.watching import until, until_true

pytestmark = pytest.mark.anyio


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
    assert await keys_of(bus, "{x}") == []
    assert await bus.index.newest(None) == await bus.index.newest("acme") == []
    with pytest.raises(ExecutionUnknownError):
        await bus.delete("x")
    async with bus.execution("x") as again:
        assert again.attempt == 1


async def test_attack_31_what_has_not_ended_is_not_deleted(bus: Bus) -> None:
    async with bus.execution("running") as execution:
        await execution.append("custom.n")
        with pytest.raises(ExecutionNotEndedError, match=r"is running; only an ended one can be deleted: cancel it"):
            await bus.delete("running")
    await bus.submit("p", {}, execution_id="queued")
    with pytest.raises(ExecutionNotEndedError):
        await bus.delete("queued")
    assert await bus.state("queued") is not None
