"""Rates, one bucket a subject or tenant in Redis: the same limit, however many gateways there are."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal

from tailrace.bus import ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script
from tailrace.gateway.http.problems import Problem, ProblemError

logger = logging.getLogger(__name__)

# The first two are a subject's, the others a tenant's.
Kind = Literal["requests", "events", "executions", "bytes"]

_HOUR_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Rate:
    """0 a second is no limit."""

    per_second: float
    burst: int

    @classmethod
    def an_hour(cls, amount: int) -> Rate:
        """All of it may be taken at once."""
        return cls(amount / _HOUR_SECONDS, amount)


class Rates:
    def __init__(self, commands: Commands, keys: Keys, counters: Counters, rates: dict[Kind, Rate]) -> None:
        self._commands = commands
        self._keys = keys
        self._counters = counters
        self._rates = rates
        source = files("tailrace.gateway.limits").joinpath("bucket.lua").read_text(encoding="utf-8")
        self._script = Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())

    async def spend(self, kind: Kind, account: str, amount: int = 1) -> None:
        """More than the burst counts as the burst, or it could never be had.

        Raises ProblemError (429, ``too_many_requests``, ``event_rate_exceeded`` or ``quota_exceeded``) that says when
        to come again; and BusUnavailableError: what a request is for cannot be had then either.
        """
        rate = self._rates[kind]
        if not rate.per_second:
            return
        key = self._keys.bucket(kind, account)
        try:
            wait_ms = await self._script.run(
                self._commands, (key,), str(rate.per_second), rate.burst, min(amount, rate.burst)
            )
        except ReplyError as error:
            # A bucket that a stranger has broken must not keep anybody out.
            self._counters.add("limits_unchecked")
            logger.warning("the rate limit of %s could not be checked: %s", kind, error)
            return
        if wait_ms:
            self._counters.add(f"refused_{kind}")
            raise ProblemError(_too_fast(kind, rate, math.ceil(wait_ms / 1000)))


def _too_fast(kind: Kind, rate: Rate, seconds: int) -> Problem:
    detail = f"no more than {rate.per_second:g} {kind} a second, {rate.burst} at once; retry in {seconds} s"
    retry = {"Retry-After": str(seconds)}
    if kind == "requests":
        return Problem(429, "too_many_requests", detail, headers=retry)
    if kind == "events":
        return Problem(429, "event_rate_exceeded", detail, headers=retry)
    detail = f"the tenant's quota is {rate.burst:,} {kind} an hour; retry in {seconds} s"
    return Problem(429, "quota_exceeded", detail, more={"limit": rate.burst}, headers=retry)
