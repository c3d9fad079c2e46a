"""A page of a log, read for a request, and waited for where it would be empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from tailrace.bus import START, Cursor, ExecutionUnknownError, InvalidInputError
from tailrace.bus.model.cursor import parse
from tailrace.bus.model.filter import Filter
from tailrace.bus.queries.page import collect
from tailrace.gateway.access.access import Access
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.http.parsing import check_limit
from tailrace.gateway.http.schemas import Links
from tailrace.gateway.streams.long_poll import await_news

PAGE: Final = "application/json"
DEFAULT_LIMIT: Final = 100
# Less than what proxies leave a request that says nothing.
MAX_WAIT_SECONDS: Final = 50.0


@dataclass(frozen=True, slots=True)
class PageQuery:
    """``last`` begins with the newest so many; ``wait_seconds`` waits for the first event of a page without any."""

    after: Cursor
    limit: int
    last: int | None
    wait_seconds: float
    filters: Mapping[str, str]
    wanted: Filter | None

    def following(self, cursor: Cursor) -> str:
        """The query of the next page."""
        wait = {"wait": f"{self.wait_seconds:g}"} if self.wait_seconds else {}
        return urlencode({"after": str(cursor), "limit": self.limit, **wait, **self.filters})


async def read_page(request: Request, access: Access, execution_id: str, query: PageQuery) -> Response:
    """Raises ExecutionUnknownError, BusUnavailableError; ClientDisconnect while it waits."""
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    gateway = access.gateway
    log, after, max_bytes = gateway.bus.log, query.after, gateway.settings.page_bytes
    if not await log.exists(execution_id):
        raise ExecutionUnknownError(execution_id)
    if query.last is not None:
        after = await gateway.hub.before_newest(execution_id, query.last)
    page = await collect(log, execution_id, after, query.limit, max_bytes, wanted=query.wanted)
    if query.wait_seconds and page.has_no_news:
        after = page.next
        if not await await_news(request, access, execution_id, after, query.wait_seconds):
            headers["Connection"] = "close"
        page = await collect(log, execution_id, after, query.limit, max_bytes, wanted=query.wanted)
    following = None if page.ended else f"{Links.of(execution_id).events}?{query.following(page.next)}"
    return Response(page.render({"next": following}), headers=headers, media_type=PAGE)


def page_query(
    gateway: GatewayContext,
    *,
    after: str | None,
    limit: int | None,
    last: int | None,
    wait: float | None,
    filters: Mapping[str, str],
    wanted: Filter | None,
) -> PageQuery:
    """``filters`` are what ``wanted`` was made of, for the link to the next page. Raises InvalidInputError."""
    if after is not None and last is not None:
        raise InvalidInputError("last", "'after' and 'last' cannot be used together: give one of them")
    most = gateway.settings.max_page
    newest = None if last is None else check_limit(last, most, field="last")
    return PageQuery(
        after=START if after is None else parse(after, field="after"),
        limit=check_limit(limit or newest or DEFAULT_LIMIT, most),
        last=newest,
        wait_seconds=min(wait or 0.0, MAX_WAIT_SECONDS),
        filters=filters,
        wanted=wanted,
    )
