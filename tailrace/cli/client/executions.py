"""Which executions there are: from a gateway, or from Redis itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx

from tailrace.bus import Bus, open_bus
from tailrace.bus.model.event import check_name
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.queries.listing import (
    MAX_LIMIT,
    ListQuery,
    list_executions,
    parse_place,
    parse_time,
    place_text,
)
from tailrace.bus.queries.state import ExecutionSummary
from tailrace.cli.client.asking import ask
from tailrace.cli.client.watch import client_for
from tailrace.gateway.http.schemas import ExecutionList

LIVE: Final[tuple[Status, ...]] = ("queued", "running", "paused", "cancelling")


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """``after`` and ``before`` bound the time of creation, as RFC 3339. No statuses are all of them."""

    statuses: tuple[Status, ...] = LIVE
    pipeline: str | None = None
    tenant: str | None = None
    after: str | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    """Executions as the gateway shows them, the newest first; ``more`` says that there may be more of them."""

    items: list[dict[str, Any]]
    more: bool


class ExecutionSource(Protocol):
    async def read(self, wanted: ExecutionFilter) -> ExecutionPage:
        """Raises BusError, GatewayRequestError."""


@asynccontextmanager
async def open_executions(gateways: Sequence[str], redis_url: str | None) -> AsyncGenerator[ExecutionSource, None]:
    """Raises BusError."""
    if redis_url is not None:
        async with await open_bus(redis_url) as bus:
            yield _OfRedis(bus)
    else:
        async with client_for(gateways) as client:
            yield _OfGateways(client, gateways)


class _Paged:
    async def page(self, wanted: ExecutionFilter, limit: int, cursor: str | None) -> dict[str, Any]:
        raise NotImplementedError

    async def read(self, wanted: ExecutionFilter) -> ExecutionPage:
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = await self.page(wanted, min(wanted.limit - len(items), MAX_LIMIT), cursor)
            items += page["items"]
            cursor = page["next"]
            if cursor is None or len(items) >= wanted.limit:
                return ExecutionPage(items, more=cursor is not None)


class _OfGateways(_Paged):
    def __init__(self, client: httpx.AsyncClient, gateways: Sequence[str]) -> None:
        self._client = client
        self._gateways = gateways

    async def page(self, wanted: ExecutionFilter, limit: int, cursor: str | None) -> dict[str, Any]:
        given = {
            "status": list(wanted.statuses),
            "pipeline": wanted.pipeline,
            "tenant": wanted.tenant,
            "created_after": wanted.after,
            "created_before": wanted.before,
            "limit": limit,
            "cursor": cursor,
        }
        params = {name: value for name, value in given.items() if value is not None}
        return await ask(self._client, self._gateways, "/v1/executions", ExecutionList, params=params)


class _OfRedis(_Paged):
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def page(self, wanted: ExecutionFilter, limit: int, cursor: str | None) -> dict[str, Any]:
        query = ListQuery(
            statuses=wanted.statuses,
            pipeline=None if wanted.pipeline is None else check_name(wanted.pipeline, field="--pipeline"),
            tenant=wanted.tenant,
            after_ms=None if wanted.after is None else parse_time(wanted.after, field="--since"),
            before_ms=None if wanted.before is None else parse_time(wanted.before, field="--before"),
            cursor=None if cursor is None else parse_place(cursor),
            limit=limit,
        )
        found = await list_executions(self._bus.log, self._bus.index, query)
        items = [ExecutionSummary.of(state).model_dump(mode="json") for state in found.states]
        return {"items": items, "next": None if found.next is None else place_text(found.next)}
