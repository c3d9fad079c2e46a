"""All that one gateway knows of credentials, kept up to date while it runs."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import HTTPConnection

from tailrace.bus import Bus, BusUnavailableError
from tailrace.gateway.auth.api_keys import LEAD, ApiKey, ApiKeys, UnusableApiKeysError, parse_api_keys
from tailrace.gateway.auth.credentials import check_page, shown_by
from tailrace.gateway.auth.keyring import Keyring
from tailrace.gateway.auth.principal import ANONYMOUS, Principal
from tailrace.gateway.auth.refusals import UnauthenticatedError
from tailrace.gateway.auth.revocations import Revocations
from tailrace.gateway.auth.revoked import Revocation
from tailrace.gateway.auth.settings import AuthSettings
from tailrace.gateway.auth.tickets import TicketOffice
from tailrace.gateway.auth.tokens import TokenRules, Tokens
from tailrace.gateway.auth.watched_file import WatchedFile
from tailrace.gateway.http.problems import ProblemError

logger = logging.getLogger(__name__)

SOURCES_SECONDS: Final = 1.0

# An application's own way to tell who asks; None for whom it does not know.
Authenticate = Callable[[HTTPConnection], Principal | Awaitable[Principal | None] | None]


class Authenticator:
    """``start`` before the first request, ``aclose`` at the end."""

    def __init__(self, bus: Bus, settings: AuthSettings, own: Authenticate | None = None) -> None:
        """``own`` is asked first; whom it does not know may still show a credential of ours, where there are any."""
        self.required = settings.auth_required or own is not None
        self._own = own
        # Called when what was revoked, or which keys there are, has changed; must not raise.
        self.on_change: Callable[[], None] = lambda: None
        self.tickets = TicketOffice(
            bus.commands, bus.keys, [key.get_secret_value().encode() for key in settings.ticket_keys]
        )
        self._settings = settings
        self._counters = bus.counters
        self._revocations = Revocations(bus.commands, bus.keys, kept_seconds=settings.max_token_seconds)
        self._keyring = Keyring(
            [key.get_secret_value().encode() for key in settings.jwt_hs256_keys],
            file=None if settings.jwks_file is None else WatchedFile(settings.jwks_file),
            url=settings.jwks_url,
            clock=time.monotonic,
        )
        rules = TokenRules(
            settings.jwt_audience, settings.jwt_issuer, settings.jwt_tenant_claim, settings.max_token_seconds
        )
        self._tokens = Tokens(self._keyring, rules, time.time)
        self._api_keys_file = None if settings.api_keys_file is None else WatchedFile(settings.api_keys_file)
        self._api_keys = ApiKeys.of(settings.api_keys)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Raises BusUnavailableError: without the list of what was revoked no credential is accepted."""
        if not self.required:
            return
        self._reread_api_keys()
        self._keyring.reread_file()
        await self._revocations.read_on()
        chores: list[tuple[float, Callable[[], Awaitable[object]]]] = [
            (SOURCES_SECONDS, self._read_revocations),
            (SOURCES_SECONDS, self._reread_files),
            # By itself: a URL that hangs holds up nothing else.
            (SOURCES_SECONDS, self._keyring.refresh),
        ]
        self._tasks = [
            asyncio.create_task(_every(seconds, chore), name=f"auth:{index}")
            for index, (seconds, chore) in enumerate(chores)
        ]

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """Who asks. Raises UnauthenticatedError, ForbiddenError, ProblemError, BusUnavailableError."""
        if not self.required:
            return ANONYMOUS
        settings = self._settings
        try:
            if self._own is not None and (known := await self._known(self._own, connection)) is not None:
                return known
            shown = shown_by(connection, cookie=settings.auth_cookie, allowed_origins=settings.allowed_origins)
            if shown.kind == "ticket":
                return self._checked(await self.tickets.take(shown.text))
            return await self.verify(shown.text)
        except ProblemError as error:
            self._counters.add(f"refused_{error.problem.code}")
            raise

    async def _known(self, own: Authenticate, connection: HTTPConnection) -> Principal | None:
        given = own(connection)
        principal = await given if inspect.isawaitable(given) else given
        if principal is None:
            return None
        if not isinstance(principal, Principal):
            raise TypeError(f"authenticate gave {type(principal).__name__}; it gives a Principal, or None")
        if "cookie" in connection.headers and "authorization" not in connection.headers:
            # A stranger's page can have a browser send cookies along.
            check_page(connection, self._settings.allowed_origins)
        return self._checked(principal)

    async def verify(self, text: str) -> Principal:
        """Who a token, or an API key, speaks for. Raises UnauthenticatedError, ProblemError."""
        if text.startswith(LEAD):
            return self._checked(self._api_keys.verify(text, time.time()))
        return self._checked(await self._tokens.verify(text))

    def check_current(self, principal: Principal) -> None:
        """Raises UnauthenticatedError when what was good a while ago is not any more."""
        if principal.expires_at is not None and principal.expires_at <= time.time():
            raise UnauthenticatedError("token_expired", "the token has expired; get a new one")
        if not principal.lasts:
            self._checked(principal)

    async def revoke(self, revocation: Revocation) -> None:
        """Raises BusUnavailableError, ProblemError."""
        await self._revocations.revoke(revocation)
        self.on_change()

    def _checked(self, principal: Principal) -> Principal:
        if self.is_revoked(principal):
            raise UnauthenticatedError("token_revoked", "the token has been revoked; get a new one")
        return principal

    def is_revoked(self, principal: Principal) -> bool:
        if principal.api_key is not None:
            key = self._api_keys.by_id.get(principal.api_key)
            # A ticket outlives no key, none that was made anew under the same id, and none that covers less now.
            if key is None or not key.still_covers(principal):
                return True
        return self._revocations.revoked.has(principal)

    async def _read_revocations(self) -> None:
        try:
            if await self._revocations.read_on():
                self.on_change()
        except BusUnavailableError as error:
            # Streams stand still as well; what was revoked meanwhile is read first thing afterwards.
            logger.debug("revocations not read: %s", error)

    async def _reread_files(self) -> None:
        self._keyring.reread_file()
        if self._reread_api_keys():
            self.on_change()

    def _reread_api_keys(self) -> bool:
        file = self._api_keys_file
        if file is None:
            return False
        try:
            document = file.changed()
            if document is None:
                return False
            keys: tuple[ApiKey, ...] = parse_api_keys(document)
        except (OSError, UnusableApiKeysError) as error:
            logger.warning("API keys could not be read from %s; keeping the previous ones: %s", file.path, error)
            return False
        self._api_keys = ApiKeys.of(self._settings.api_keys, keys)
        logger.info("%d API keys read from %s", len(keys), file.path)
        return True


async def _every(seconds: float, chore: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await chore()
        except Exception:
            # Whatever it was: expiry and revocation must go on.
            logger.exception("refreshing credentials failed; retrying")
