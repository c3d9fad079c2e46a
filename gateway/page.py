"""A page of a log as one JSON document."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

import orjson
from starlette.responses import Response

from bus import Cursor, Entry, ExecutionUnknownError, Gap
from bus.continuity import Numbering
from bus.cursor import parse
from bus.reading import Page
from gateway.context import Gateway
from gateway.render import envelope, gap_payload
from gateway.schemas import Links

# Entries may have 256 KiB each: a large page is read in bites, so that its bound in bytes means something.
_BITE_ENTRIES: Final = 64


async def read_page(gateway: Gateway, execution_id: str, after: str, limit: int) -> Response:
    """Raises InvalidCursorError, ExecutionUnknownError, BusUnavailableError."""
    cursor = parse(after, field="after")
    log = gateway.bus.log
    if not await log.exists(execution_id):
        raise ExecutionUnknownError(execution_id)
    page = await log.read(execution_id, Numbering.after(cursor), min(limit, _BITE_ENTRIES))
    document = PageDocument(execution_id, cursor, limit, gateway.settings.page_bytes)
    while document.take(page):
        page = await log.read(execution_id, page.position, min(document.missing, _BITE_ENTRIES))
    return Response(
        document.render(), headers={"Cache-Control": "no-store", "Vary": "Accept"}, media_type="application/json"
    )


class PageDocument:
    """Collects bites of a log until the page is full. Pure.

    A page has at most one gap, before its items; another one begins the next page.
    """

    def __init__(self, execution_id: str, after: Cursor, limit: int, max_bytes: int) -> None:
        self._execution_id = execution_id
        self._limit = limit
        self._max_bytes = max_bytes
        self._gap: Gap | None = None
        self._items: list[bytes] = []
        self._size = 0
        self._next = after
        self._more = False
        self._ended = False

    @property
    def missing(self) -> int:
        return self._limit - len(self._items)

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
        query = urlencode({"after": str(self._next), "limit": self._limit})
        following = None if self._ended else f"{Links.of(self._execution_id).events}?{query}"
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
