"""Which executions there are: from a gateway, or from Redis itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx

from bus import Bus, open_bus
from bus.event import check_name
from bus.lifecycle import Status
from gateway.listing import ListQuery, list_executions, parse_place, parse_time
from gateway.routes.listing import MAX_LIMIT
from tailrace.asking import ask
from tailrace.watch import client_for

LIVE: Final[tuple[Status, ...]] = ("queued", "running", "paused", "cancelling")


@dataclass(frozen=True, slots=True)
class Wish:
    """``after`` and ``before`` bound the time of creation, as RFC 3339. No statuses are all of them."""

    statuses: tuple[Status, ...] = LIVE
    pipeline: str | None = None
    tenant: str | None = None
    after: str | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Roll:
    """Executions as the gateway shows them, the newest first; ``more`` says that there may be more of them."""

    items: list[dict[str, Any]]
    more: bool


class Roster(Protocol):
    async def read(self, wish: Wish) -> Roll:
        """Raises BusError, GatewayError."""


@asynccontextmanager
async def open_roster(gateways: Sequence[str], redis_url: str | None) -> AsyncGenerator[Roster, None]:
    """Raises BusError."""
    if redis_url is not None:
        async with await open_bus(redis_url) as bus:
            yield _OfRedis(bus)
    else:
        async with client_for(gateways) as client:
            yield _OfGateways(client, gateways)


class _Paged:
    async def page(self, wish: Wish, limit: int, cursor: str | None) -> dict[str, Any]:
        raise NotImplementedError

    async def read(self, wish: Wish) -> Roll:
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = await self.page(wish, min(wish.limit - len(items), MAX_LIMIT), cursor)
            items += page["items"]
            cursor = page["next"]
            if cursor is None or len(items) >= wish.limit:
                return Roll(items, more=cursor is not None)


class _OfGateways(_Paged):
    def __init__(self, client: httpx.AsyncClient, gateways: Sequence[str]) -> None:
        self._client = client
        self._gateways = gateways

    async def page(self, wish: Wish, limit: int, cursor: str | None) -> dict[str, Any]:
        given = {
            "status": list(wish.statuses),
            "pipeline": wish.pipeline,
            "tenant": wish.tenant,
            "created_after": wish.after,
            "created_before": wish.before,
            "limit": limit,
            "cursor": cursor,
        }
        params = {name: value for name, value in given.items() if value is not None}
        page: dict[str, Any] = await ask(self._client, self._gateways, "/v1/executions", params=params)
        return page


class _OfRedis(_Paged):
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def page(self, wish: Wish, limit: int, cursor: str | None) -> dict[str, Any]:
        query = ListQuery(
            statuses=wish.statuses,
            pipeline=None if wish.pipeline is None else check_name(wish.pipeline, field="--pipeline"),
            tenant=wish.tenant,
            after_ms=None if wish.after is None else parse_time(wish.after, field="--since"),
            before_ms=None if wish.before is None else parse_time(wish.before, field="--before"),
            cursor=None if cursor is None else parse_place(cursor),
            limit=limit,
        )
        return (await list_executions(self._bus, query)).model_dump(mode="json")
