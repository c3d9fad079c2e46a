"""How many live connections there are, and whose. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
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
    """``by_holder`` counts them by subject and by address; both limits are of all gateways together."""

    def __init__(self, limits: ConnectionLimits, counters: Counters) -> None:
        self.total = 0
        self.by_holder: Counter[str] = Counter()
        self._limits = limits
        self._counters = counters

    def holders(self, client: Client) -> list[str]:
        """Whose connections are bounded."""
        return [holder for holder, *_ in self._bounds(client)]

    def check(self, client: Client, elsewhere: Mapping[str, int]) -> None:
        """Raises GatewayFullError (503), ProblemError (429, ``too_many_connections``)."""
        if self.total >= self._limits.total:
            self._counters.add("refused_connections_gateway_full")
            raise GatewayFullError(self._limits.total)
        for holder, limit, counter, whose in self._bounds(client):
            if self.by_holder[holder] + elsewhere.get(holder, 0) >= limit:
                self._counters.add(counter)
                raise _too_many(limit, whose)

    def enter(self, client: Client) -> None:
        self.total += 1
        for holder in _holders(client):
            self.by_holder[holder] += 1

    def leave(self, client: Client) -> None:
        self.total -= 1
        for holder in _holders(client):
            self.by_holder[holder] -= 1
            if not self.by_holder[holder]:
                del self.by_holder[holder]

    def _bounds(self, client: Client) -> Iterator[tuple[str, int, str, str]]:
        limits = self._limits
        if limits.per_principal and client.account:
            yield _subject(client.account), limits.per_principal, "refused_connections_principal", "of this subject"
        if limits.per_address and client.address:
            yield _address(client.address), limits.per_address, "refused_connections_address", "from this address"


def _holders(client: Client) -> Iterator[str]:
    if client.account is not None:
        yield _subject(client.account)
    if client.address is not None:
        yield _address(client.address)


def _subject(account: str) -> str:
    return f"subject {account}"


def _address(address: str) -> str:
    return f"address {address}"


def _too_many(limit: int, whose: str) -> ProblemError:
    detail = f"too many live connections {whose} (the limit is {limit}); close some of them"
    retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return ProblemError(Problem(429, "too_many_connections", detail, more={"limit": limit}, headers=retry))
