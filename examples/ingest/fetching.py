"""Reads from other servers: only from origins that the operator named, and only what is text."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from typing import Final

import httpx
from documents import check_text, origin_of

MAX_BYTES: Final = 5_000_000
FETCH_SECONDS: Final = float(os.environ.get("INGEST_FETCH_SECONDS", "30"))
TEXTS: Final = ("text/", "application/json", "application/xhtml+xml")
# Of whatever is named here, every page can be read by every user of this application.
ORIGINS: Final = frozenset(
    origin_of(origin.strip()) for origin in os.environ.get("INGEST_ORIGINS", "").split(",") if origin.strip()
)


class FetchError(Exception):
    """The message says what is wrong with which URL."""


def check_origin(url: str) -> str:
    """Raises ValueError: nobody makes us ask a server that only we can reach."""
    if (origin := origin_of(url)) not in ORIGINS:
        raise ValueError(
            f"{origin} is not one of the origins that may be read; the operator names them, INGEST_ORIGINS"
        )
    return url


async def fetch_text(url: str) -> str:
    """Raises FetchError."""
    try:
        check_origin(url)
        async with asyncio.timeout(FETCH_SECONDS):
            text: str = check_text(await _read(url))
            return text
    except TimeoutError:
        raise FetchError(f"{url} was not read within {FETCH_SECONDS:g} s") from None
    except httpx.TransportError as error:
        raise FetchError(f"{url} cannot be reached: {str(error) or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise FetchError(f"{url} is not a document: it is not UTF-8 text") from None
    except ValueError as error:
        raise FetchError(f"{url} is not a document: {error}") from None


async def fetch_list(url: str) -> list[tuple[datetime, str]]:
    """A channel's items: when they were published, and their URLs. Raises FetchError."""
    text = await fetch_text(url)
    try:
        items = json.loads(text)
        return [(datetime.fromisoformat(item["published"]).astimezone(UTC), str(item["url"])) for item in items]
    except (ValueError, TypeError, KeyError, RecursionError):
        wanted = 'a channel is a JSON list of {"url", "published"}'
        raise FetchError(f"{url} is not a channel: {wanted}") from None


async def _read(url: str) -> str:
    # A redirect would lead away from what was checked, and a proxy of the environment asks in our place.
    async with (
        httpx.AsyncClient(trust_env=False, timeout=FETCH_SECONDS) as client,
        client.stream("GET", url) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise FetchError(f"{url} was answered with {response.status_code}, not 200")
        kind = response.headers.get("content-type", "")
        if not kind.startswith(TEXTS):
            raise FetchError(f"{url} is not a document: it is {kind[:100] or 'of no type'}, not text")
        body = bytearray()
        async for piece in response.aiter_bytes(65_536):
            body += piece
            if len(body) > MAX_BYTES:
                raise FetchError(f"{url} is larger than {MAX_BYTES} bytes")
    return body.decode()
