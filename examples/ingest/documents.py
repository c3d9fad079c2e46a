"""What can be ingested: a video, a channel or an article by its URL, or a document that is sent along. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeVar
from urllib.parse import parse_qs, urlsplit

Kind = Literal["video", "channel", "article", "document"]
Limit = Literal["month", "year", "50", "100", "all"]
DAYS: Final = {"month": 30, "year": 365}
MAX_URL: Final = 2000
# Line ends and tabs are text; what else is below a space is not.
_BINARY: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufffd]")
_VIDEO_ID: Final = re.compile("[A-Za-z0-9_-]{1,64}")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
Item = TypeVar("Item")


@dataclass(frozen=True)
class Document:
    """``id`` is what its source calls it; ``key`` names it here, and is the same for every way of writing its URL."""

    kind: Kind
    id: str
    key: str
    source: str


def origin_of(url: str) -> str:
    """As ``http://example.org:8000``. Raises ValueError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a valid URL") from None
    if len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise ValueError(f"must be at most {MAX_URL} printable characters without spaces")
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise ValueError("must be an http or https URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not carry a user name or password")
    shown = f"[{host}]" if ":" in host else host
    default = port is None or port == _DEFAULT_PORTS[parts.scheme]
    return f"{parts.scheme}://{shown}" + ("" if default else f":{port}")


def document_at(url: str) -> Document:
    """Raises ValueError."""
    origin, parts = origin_of(url), urlsplit(url)
    if parts.path == "/watch":
        given = parse_qs(parts.query).get("v", [""])[0]
        if not _VIDEO_ID.fullmatch(given):
            raise ValueError("has no video id; a video is at /watch?v=ID")
        return _document("video", given, f"{origin}/watch?v={given}")
    if parts.path.startswith("/channel/"):
        name = parts.path.removeprefix("/channel/").strip("/")
        if not _VIDEO_ID.fullmatch(name):
            raise ValueError("has no channel name; a channel is at /channel/NAME")
        return _document("channel", name, f"{origin}/channel/{name}")
    source = f"{origin}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
    return _document("article", _digest(source)[:16], source)


def document_of(title: str, text: str) -> Document:
    """The same text is the same document, whatever its title."""
    digest = _digest(text)
    return Document("document", digest[:16], f"document-{digest[:32]}", title)


def check_text(text: str) -> str:
    """Raises ValueError for what is not the text of a document."""
    if not text.strip():
        raise ValueError("is empty")
    if _BINARY.search(text):
        raise ValueError("is not text: it has control characters")
    return text


def within(items: Iterable[tuple[datetime, Item]], limit: Limit) -> list[Item]:
    """The newest first: of the last month or year, or so many, or all."""
    newest = sorted(items, key=lambda item: item[0], reverse=True)
    if limit in DAYS:
        begin = datetime.now(UTC) - timedelta(days=DAYS[limit])
        newest = [item for item in newest if item[0] >= begin]
    elif limit != "all":
        newest = newest[: int(limit)]
    return [item for _, item in newest]


def _document(kind: Kind, name: str, source: str) -> Document:
    return Document(kind, name, f"{kind}-{_digest(source)[:32]}", source)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
