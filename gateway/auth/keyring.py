"""The keys that tokens are checked with, from all places they may come from, as they stand at the moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tailrace.gateway.auth.jwks import UnusableKeysError, VerifyingKey, parse_jwks
from tailrace.gateway.auth.watched_file import WatchedFile

logger = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 300.0
# A token with an unknown key id makes us ask; however many such tokens come, no more often than this.
REFETCH_SECONDS: Final = 10.0
FETCH_SECONDS: Final = 5.0
_MAX_DOCUMENT_BYTES: Final = 256 * 1024

Fetch = Callable[[str], Awaitable[bytes]]


class Keyring:
    """Secrets of the settings, and key sets of a file and of a URL. A source that fails keeps the keys it gave last."""

    def __init__(
        self,
        secrets: Sequence[bytes] = (),
        *,
        file: WatchedFile | None = None,
        url: str | None = None,
        fetch: Fetch | None = None,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` is monotonic, in seconds."""
        self._secrets = tuple(VerifyingKey("HS256", secret) for secret in secrets)
        self._file = file
        self._of_file: tuple[VerifyingKey, ...] = ()
        self._url = url
        self._of_url: tuple[VerifyingKey, ...] = ()
        self._fetch = fetch or fetch_document
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._tried_at = float("-inf")

    @property
    def is_empty(self) -> bool:
        return not (self._secrets or self._of_file or self._of_url)

    async def candidates(self, algorithm: str, key_id: str | None) -> list[VerifyingKey]:
        """Keys that a token may have been signed with; asks the URL once more before it says that there are none."""
        found = self._suiting(algorithm, key_id)
        if not found and self._url is not None and algorithm != "HS256":
            await self._refetch()
            found = self._suiting(algorithm, key_id)
        return found

    async def newer(self, algorithm: str, key_id: str | None) -> list[VerifyingKey]:
        """Ask the URL once more, for a signature that fits no key: a set without key ids does not show its changes."""
        if self._url is not None and algorithm != "HS256":
            await self._refetch()
        return self._suiting(algorithm, key_id)

    async def refresh(self) -> None:
        """Read what may have changed; to be called every second or so."""
        self.reread_file()
        if self._url is not None and self._clock() - self._tried_at >= REFRESH_SECONDS:
            await self._refetch()

    def reread_file(self) -> None:
        if self._file is None:
            return
        try:
            document = self._file.changed()
            if document is not None:
                self._of_file = parse_jwks(document, secrets=True)
                logger.info("%d keys read from %s", len(self._of_file), self._file.path)
        except (OSError, UnusableKeysError) as error:
            logger.warning("keys could not be read from %s; keeping the previous ones: %s", self._file.path, error)

    def _suiting(self, algorithm: str, key_id: str | None) -> list[VerifyingKey]:
        return [key for key in (*self._secrets, *self._of_file, *self._of_url) if key.suits(algorithm, key_id)]

    async def _refetch(self) -> None:
        async with self._fetching:
            # Who waited for another's attempt has had it.
            if self._url is None or self._clock() - self._tried_at < REFETCH_SECONDS:
                return
            self._tried_at = self._clock()
            # Only who asks a URL pays for it: with the command line's libraries beside it, it takes as long as the bus.
            import httpx  # noqa: PLC0415

            try:
                keys = parse_jwks(await self._fetch(self._url), secrets=False)
            except (httpx.HTTPError, TimeoutError, UnusableKeysError) as error:
                logger.warning(
                    "keys could not be read from %s; keeping the previous ones: %s: %s",
                    self._url,
                    type(error).__name__,
                    error,
                )
                return
            if {key.key_id for key in keys} != {key.key_id for key in self._of_url}:
                logger.info("%d keys fetched from %s", len(keys), self._url)
            self._of_url = keys


async def fetch_document(url: str) -> bytes:
    """Raises httpx.HTTPError, TimeoutError, UnusableKeysError for what is too large."""
    import httpx  # noqa: PLC0415

    collected = b""
    async with (
        asyncio.timeout(FETCH_SECONDS * 2),
        httpx.AsyncClient(timeout=FETCH_SECONDS) as client,
        client.stream("GET", url, headers={"Accept": "application/json"}) as response,
    ):
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            collected += chunk
            if len(collected) > _MAX_DOCUMENT_BYTES:
                raise UnusableKeysError(f"it is larger than {_MAX_DOCUMENT_BYTES} bytes")
    return collected
