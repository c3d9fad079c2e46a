"""A page of a log as one JSON document."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tailrace.bus import Bus, Cursor, Entry, ExecutionUnknownError, Gap
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START
from tailrace.bus.model.reading import Page
from tailrace.bus.queries.recent import before_newest
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.http.schemas import Links
from tailrace.gateway.streams.long_poll import await_news
from tailrace.gateway.wire.formats import envelope, gap_payload

# Entries may have 256 KiB each: a large page is read in bites, so that its bound in bytes means something.
_BITE_ENTRIES: Final = 64


@dataclass(frozen=True, slots=True)
class PageQuery:
    """``last`` begins with the newest so many; ``wait_seconds`` waits for the first event of a page without any."""

    after: Cursor = START
    limit: int = 100
    last: int | None = None
    wait_seconds: float = 0.0

    def following(self, cursor: Cursor) -> str:
        """The query of the next page."""
        wait = {"wait": f"{self.wait_seconds:g}"} if self.wait_seconds else {}
        return urlencode({"after": str(cursor), "limit": self.limit, **wait})


async def read_page(request: Request, gateway: GatewayContext, execution_id: str, query: PageQuery) -> Response:
    """Raises ExecutionUnknownError, BusUnavailableError; ClientDisconnect while it waits."""
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    log = gateway.bus.log
    if not await log.exists(execution_id):
        raise ExecutionUnknownError(execution_id)
    if query.last is not None:
        query = replace(
            query, after=await before_newest(gateway.bus.commands, gateway.bus.keys, execution_id, query.last)
        )
    document = await collect(gateway.bus, execution_id, query, gateway.settings.page_bytes)
    if query.wait_seconds and document.has_no_news:
        stays = await await_news(request, gateway, execution_id, query.after, query.wait_seconds)
        if not stays:
            headers["Connection"] = "close"
        document = await collect(gateway.bus, execution_id, query, gateway.settings.page_bytes)
    return Response(document.render(), headers=headers, media_type="application/json")


async def collect(bus: Bus, execution_id: str, query: PageQuery, max_bytes: int) -> PageDocument:
    """Read one page. Raises BusUnavailableError."""
    log = bus.log
    document = PageDocument(execution_id, query, max_bytes)
    page = await log.read(execution_id, Numbering.after(query.after), min(query.limit, _BITE_ENTRIES))
    while document.take(page):
        page = await log.read(execution_id, page.position, min(document.missing, _BITE_ENTRIES))
    return document


class PageDocument:
    """Collects bites of a log until the page is full. Pure.

    A page has at most one gap, before its items; another one begins the next page.
    """

    def __init__(self, execution_id: str, query: PageQuery, max_bytes: int) -> None:
        self._execution_id = execution_id
        self._query = query
        self._max_bytes = max_bytes
        self._gap: Gap | None = None
        self._items: list[bytes] = []
        self._size = 0
        self._next = query.after
        self._more = False
        self._ended = False

    @property
    def missing(self) -> int:
        return self._query.limit - len(self._items)

    @property
    def has_no_news(self) -> bool:
        return not self._items and self._gap is None and not self._ended

    def take(self, page: Page) -> bool:
        """Add what fits; True when the page has room for what follows."""
        self._more, self._ended = page.more, page.ended
        for item in page.items:
            if not self._add(item):
                self._more, self._ended = True, False
                return False
        self._next = page.position.cursor
        return page.more and self.missing > 0 and self._size < self._max_bytes

    def render(self) -> bytes:
        following = (
            None if self._ended else f"{Links.of(self._execution_id).events}?{self._query.following(self._next)}"
        )
        rest = {"next": str(self._next), "more": self._more, "ended": self._ended, "links": {"next": following}}
        if self._gap is not None:
            rest = {"gap": gap_payload(self._gap), **rest}
        return b'{"items":[' + b",".join(self._items) + b"]," + orjson.dumps(rest)[1:]

    def _add(self, item: Entry | Gap) -> bool:
        if isinstance(item, Gap):
            if self._gap is not None or self._items:
                return False
            self._gap = item
            return True
        if self.missing <= 0 or self._size >= self._max_bytes:
            return False
        rendered = b'{"id":"%d-%d",%b}' % (*item.cursor, envelope(self._execution_id, item))
        self._items.append(rendered)
        self._size += len(rendered)
        self._next = item.cursor
        return True
