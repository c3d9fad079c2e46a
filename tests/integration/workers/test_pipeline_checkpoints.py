"""What is kept of an execution, on every server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tailrace.bus import Bus, BusSettings, ExecutionClosedError, FenceStaleError, InvalidInputError, open_bus
from tailrace.bus.ownership.checkpoints import MAX_EXECUTION_BYTES, MAX_OUTPUT_BYTES, Restored, pack

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bus(anyio_backend: str, each_server_url: str, settings: BusSettings) -> AsyncIterator[Bus]:
    async with await open_bus(each_server_url, settings=settings) as opened:
        yield opened


async def test_what_is_kept_comes_back_each_in_its_place(bus: Bus) -> None:
    async with bus.execution("run") as execution:
        fence = execution.fence
        for name in ("fetch", "a:s", "s:fetch"):
            await bus.checkpoints.store("run", name, pack({"of": name}), fence=fence)
        await bus.checkpoints.store_state("run", "read", pack([1, b"x", None]), fence=fence)
        await bus.checkpoints.store_state("run", "read", pack(7), fence=fence)
        await bus.checkpoints.store_answer("run", "fetch", pack("yes"), fence=fence)
        assert await bus.checkpoints.restore("run") == Restored(
            {name: {"of": name} for name in ("fetch", "a:s", "s:fetch")}, {"read": 7}, {"fetch": "yes"}
        )
        assert await bus.commands.command("TTL", bus.keys.checkpoints("run")) > 0


async def test_a_steps_state_is_forgotten_when_it_is_done(bus: Bus) -> None:
    async with bus.execution("run") as execution:
        await bus.checkpoints.store_state("run", "read", pack(7), fence=execution.fence)
        await bus.checkpoints.store("run", "read", pack("done"), fence=execution.fence)
        assert await bus.checkpoints.restore("run") == Restored({"read": "done"})


async def test_nothing_is_kept_for_who_does_not_run_it_any_more(bus: Bus) -> None:
    async with bus.execution("run") as execution:
        await bus.checkpoints.store("run", "one", pack(1), fence=execution.fence)
        with pytest.raises(FenceStaleError):
            await bus.checkpoints.store("run", "one", pack(2), fence=execution.fence - 1)
    with pytest.raises(ExecutionClosedError):
        await bus.checkpoints.store_state("run", "one", pack(2), fence=execution.fence)
    assert await bus.checkpoints.load("run") == {"one": 1}


async def test_no_more_is_kept_of_an_execution_than_there_may_be(bus: Bus) -> None:
    large = pack(b"x" * (MAX_OUTPUT_BYTES - 5))
    most = MAX_EXECUTION_BYTES // len(large)
    async with bus.execution("run") as execution:
        for number in range(most):
            await bus.checkpoints.store("run", f"s{number}", large, fence=execution.fence)
        with pytest.raises(
            InvalidInputError, match=rf"checkpoints: of execution run would have {len(large) * (most + 1)}"
        ):
            await bus.checkpoints.store("run", "more", large, fence=execution.fence)
        # The same again takes no more room, and less makes some.
        await bus.checkpoints.store("run", "s0", large, fence=execution.fence)
        await bus.checkpoints.store("run", "s0", pack(1), fence=execution.fence)
        await bus.checkpoints.store("run", "more", pack(b"x" * 1000), fence=execution.fence)


async def test_what_a_stranger_wrote_counts_as_not_kept(bus: Bus) -> None:
    key = bus.keys.checkpoints("run")
    async with bus.execution("run") as execution:
        await bus.checkpoints.store("run", "one", pack(1), fence=execution.fence)
        strange = ("two", b"\xc1", "\x1fa:x", b"\x93\x01", "\x1fnew", pack(1), b"\xff", pack(1), "deep", b"\x91" * 5000)
        await bus.commands.command("HSET", key, *strange)
        assert await bus.checkpoints.restore("run") == Restored({"one": 1})
