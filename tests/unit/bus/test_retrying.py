"""One patient call: what is repeated, how often, and what is final."""

from __future__ import annotations

import pytest

from tailrace.bus.errors import BusClosedError, BusUnavailableError, ConnectionLostError, ReplyError
from tailrace.bus.redis.retrying import retry_unavailable

pytestmark = pytest.mark.anyio


class Failing:
    """Raises one error after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.mark.parametrize("code", ["READONLY", "LOADING", "OOM", "CLUSTERDOWN"])
async def test_it_is_repeated_while_redis_is_away_or_says_not_now(code: str) -> None:
    call = Failing(BusUnavailableError("away"), ReplyError(f"{code} later"), ConnectionLostError("lost"))
    told: list[BusUnavailableError] = []
    assert await retry_unavailable(call, on_retry=told.append) == "done"
    assert (call.calls, [str(error) for error in told]) == (4, ["away", f"{code} later", "lost"])


@pytest.mark.parametrize(
    "error", [ReplyError("WRONGTYPE x"), ReplyError("ERR x"), BusClosedError("closed"), ValueError("x")]
)
async def test_what_a_repetition_would_only_repeat_is_raised_at_once(error: Exception) -> None:
    call = Failing(error, error)
    with pytest.raises(type(error)):
        await retry_unavailable(call)
    assert call.calls == 1


async def test_the_last_error_is_raised_after_the_last_attempt() -> None:
    call = Failing(*(BusUnavailableError(str(number)) for number in range(9)))
    with pytest.raises(BusUnavailableError, match="2"):
        await retry_unavailable(call, attempts=3)
    assert call.calls == 3


async def test_the_last_error_is_raised_when_the_time_is_over() -> None:
    call = Failing(*(BusUnavailableError("away") for _ in range(10_000)))
    with pytest.raises(BusUnavailableError, match="away"):
        await retry_unavailable(call, seconds=0.2)
    assert 2 <= call.calls < 100
