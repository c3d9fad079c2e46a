"""The one way to repeat a call that Redis could not take: with backoff, for what is safe to send twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tailrace.bus.errors import BusUnavailableError, ReplyError
from tailrace.bus.model.retry import Backoff

# Replies that say "not now". Any other error is final: a retry would only repeat it.
TRANSIENT_CODES: Final = frozenset(
    {
        "READONLY",
        "LOADING",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "BUSY",
        "OOM",
        "NOREPLICAS",
        "UNBLOCKED",
        "MISCONF",
    }
)

T = TypeVar("T")


async def retry_unavailable(
    call: Callable[[], Awaitable[T]],
    *,
    attempts: int | None = None,
    seconds: float | None = None,
    on_retry: Callable[[BusUnavailableError], None] | None = None,
) -> T:
    """Call until Redis takes it, at most ``attempts`` times and for ``seconds``; None is no limit.

    The call must be safe to repeat, since a lost reply may hide that it was done. ``on_retry`` is told the error before
    each repetition. Raises the last BusUnavailableError; at once a ReplyError that a repetition would only repeat.
    """
    backoff, attempt = Backoff(), 0
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        try:
            return await call()
        except BusUnavailableError as error:
            attempt += 1
            left_seconds = backoff.most_seconds if deadline is None else deadline - time.monotonic()
            final = isinstance(error, ReplyError) and error.code not in TRANSIENT_CODES
            if final or attempt == attempts or left_seconds <= 0:
                raise
            if on_retry is not None:
                on_retry(error)
            await asyncio.sleep(min(backoff.delay_seconds(attempt, random.random), left_seconds))
