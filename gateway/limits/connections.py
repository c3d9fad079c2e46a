"""How many live connections there are in this process, and whose. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from tailrace.bus.model.counters import Counters
from tailrace.gateway.http.problems import Problem, ProblemError

RETRY_AFTER_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """0 is no limit, save for ``total``."""

    total: int
    per_principal: int
    per_address: int


@dataclass(frozen=True, slots=True)
class Client:
    """Whose limits a connection counts for; None where none of them holds."""

    account: str | None = None
    address: str | None = None


class GatewayFullError(ProblemError):
    """503: another gateway may have room."""

    def __init__(self, limit: int) -> None:
        detail = f"this gateway is full ({limit} live connections)"
        retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        super().__init__(Problem(503, "gateway_full", detail, more={"limit": limit}, headers=retry))


class Connections:
    def __init__(self, limits: ConnectionLimits, counters: Counters) -> None:
        self.total = 0
        self._limits = limits
        self._counters = counters
        self._by_account: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()

    def check(self, client: Client) -> None:
        """Raises GatewayFullError (503), ProblemError (429, ``too_many_connections``)."""
        limits = self._limits
        if self.total >= limits.total:
            self._counters.add("refused_connections_gateway_full")
            raise GatewayFullError(limits.total)
        if limits.per_principal and client.account and self._by_account[client.account] >= limits.per_principal:
            self._counters.add("refused_connections_principal")
            raise _too_many(limits.per_principal, "of this subject")
        if limits.per_address and client.address and self._by_address[client.address] >= limits.per_address:
            self._counters.add("refused_connections_address")
            raise _too_many(limits.per_address, "from this address")

    def enter(self, client: Client) -> None:
        self.total += 1
        for counted, who in ((self._by_account, client.account), (self._by_address, client.address)):
            if who is not None:
                counted[who] += 1

    def leave(self, client: Client) -> None:
        self.total -= 1
        for counted, who in ((self._by_account, client.account), (self._by_address, client.address)):
            if who is not None:
                counted[who] -= 1
                if not counted[who]:
                    del counted[who]


def _too_many(limit: int, whose: str) -> ProblemError:
    detail = f"too many live connections {whose} (the limit is {limit}); close some of them"
    retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return ProblemError(Problem(429, "too_many_connections", detail, more={"limit": limit}, headers=retry))
