"""Nothing is taken from owners who could not renew for no fault of theirs."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tailrace.bus.errors import BusUnavailableError
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.keys import Keys
from tailrace.bus.ownership.gate import TakeOverGate

pytestmark = pytest.mark.anyio


class FakeRedis:
    """Its clock runs with ours, ``ahead_seconds`` ahead."""

    def __init__(self, *, up_seconds: int = 10_000, due_seconds_ago: float | None = None) -> None:
        self.ahead_seconds = 0.0
        self.away = False
        self._up_seconds = up_seconds
        self._due_seconds_ago = due_seconds_ago

    async def command(self, *command: bytes | str | float) -> Any:
        if self.away:
            raise BusUnavailableError("away")
        match command[0]:
            case "TIME":
                micros = self._micros()
                return [str(micros // 1_000_000).encode(), str(micros % 1_000_000).encode()]
            case "INFO":
                return f"# Server\r\nuptime_in_seconds:{self._up_seconds}\r\n".encode()
            case "ZCOUNT":
                if self._due_seconds_ago is None:
                    return 0
                return int(self._micros() / 1000 - self._due_seconds_ago * 1000 <= int(command[3]))
        raise AssertionError(command)

    def _micros(self) -> int:
        return int((time.monotonic() + self.ahead_seconds) * 1_000_000) + 10**15

    async def aclose(self) -> None: ...


def gate_of(redis: FakeRedis, counters: Counters | None = None) -> TakeOverGate:
    return TakeOverGate(
        redis, ExecutionIndex(redis, Keys()), Counters() if counters is None else counters, lease_seconds=30
    )


async def test_it_is_open_when_nothing_is_wrong() -> None:
    gate = gate_of(FakeRedis())
    assert await gate.is_open()
    assert await gate.is_open()


@pytest.mark.parametrize(("step_seconds", "is_open"), [(0.2, True), (35.0, False), (-35.0, True)])
async def test_attack_04_it_closes_when_the_clock_of_redis_is_set_forward_and_not_when_it_is_set_back(
    step_seconds: float, is_open: bool
) -> None:
    redis = FakeRedis()
    gate = gate_of(redis)
    assert await gate.is_open()
    redis.ahead_seconds = step_seconds
    # What the caller was just told by Redis is enough to have it look anew.
    told_ms = int((time.monotonic() + step_seconds) * 1000) + 10**12
    assert await gate.is_open(told_ms) is is_open


async def test_it_closes_while_redis_does_not_answer_and_for_a_while_after() -> None:
    redis = FakeRedis()
    gate = gate_of(redis)
    assert await gate.is_open()
    redis.away = True
    gate._answered = time.monotonic() - 1
    with pytest.raises(BusUnavailableError):
        await gate.is_open()
    redis.away = False
    assert not await gate.is_open()


@pytest.mark.parametrize(
    ("up_seconds", "due_seconds_ago", "is_open"),
    [(1, 1.5, False), (1, 0.5, True), (99, None, True), (99, 1.5, True), (99, 20.0, False)],
)
async def test_attack_04_whoever_starts_lets_owners_come_first_when_leases_had_run_out_unhealed(
    up_seconds: int, due_seconds_ago: float | None, is_open: bool
) -> None:
    """Redis was away, or its clock was set forward: a process that starts now has not seen it."""
    gate = gate_of(FakeRedis(up_seconds=up_seconds, due_seconds_ago=due_seconds_ago))
    assert await gate.is_open() is is_open
    # Sessions that are gone are gone all the same.
    assert not gate.is_suspended


async def test_a_connection_that_broke_counts_only_after_a_quarter_of_a_lease() -> None:
    counters = Counters()
    gate = gate_of(FakeRedis(), counters)
    assert await gate.is_open()
    counters.add("redis_disconnects")
    assert await gate.is_open()
    counters.add("session_disconnects")
    gate._answered = time.monotonic() - 8
    assert not await gate.is_open()
