"""Tickets: what an EventSource or a WebSocket of a page puts into its URL, as it can send no header.

A URL ends up in logs and histories. So a ticket is good for one execution, for a minute, and for no more than the
credential it was made with; a connection that it opened ends when that credential does.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.commands import Commands
from tailrace.gateway.auth.claims import scopes_of, subject_of, tenant_of
from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.refusals import UnauthenticatedError
from tailrace.gateway.auth.scopes import Scope
from tailrace.gateway.auth.tokens import LEEWAY_SECONDS, MAX_TOKEN_CHARS, TICKET_TYPE, UNREADABLE

_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "tailrace:ticket"
_KEY_BYTES: Final = 32
_REQUIRED: Final = ["exp", "sub", "jti", "run", "scope"]


@dataclass(frozen=True, slots=True)
class Ticket:
    """``expires_at`` is in Unix seconds."""

    text: str
    expires_at: float


class TicketOffice:
    """Makes tickets and takes them. All gateways share the keys: those of the settings, or one kept in Redis."""

    def __init__(
        self, commands: Commands, keys: Keys, secrets: Sequence[bytes], *, now: Callable[[], float] = time.time
    ) -> None:
        """The first of ``secrets`` signs, all of them verify."""
        self._commands = commands
        self._keys = keys
        self._secrets = tuple(secrets)
        self._now = now

    async def issue(
        self, principal: Principal, execution_id: str, scopes: frozenset[Scope], *, seconds: float, once: bool
    ) -> Ticket:
        """Trusts its caller that the principal covers the execution and has the scopes. Raises BusUnavailableError."""
        now = self._now()
        expires_at = min(now + seconds, principal.expires_at or now + seconds)
        claims: dict[str, Any] = {
            "aud": _AUDIENCE,
            "sub": principal.subject,
            "tenant": principal.tenant,
            "run": execution_id,
            "scope": sorted(scopes),
            "iat": now,
            "exp": expires_at,
            "jti": secrets.token_urlsafe(16),
            "once": once,
            "of": {
                "jti": principal.token_id,
                "key": principal.api_key,
                "mark": principal.key_mark,
                "iat": principal.issued_at,
                "exp": principal.expires_at,
            },
        }
        secret = (await self._signing_secrets())[0]
        return Ticket(jwt.encode(claims, secret, _ALGORITHM, headers={"typ": TICKET_TYPE}), expires_at)

    async def take(self, text: str) -> Principal:
        """Raises UnauthenticatedError with codes of its own (``ticket_used``, …), BusUnavailableError."""
        claims = self._claims_of(text, await self._signing_secrets())
        try:
            principal = self._principal_of(claims, claims["of"])
        except (KeyError, TypeError, AttributeError):
            raise _invalid() from None
        if principal.once is not None and await self._commands.command(
            "EXISTS", self._keys.used_ticket(principal.once[0])
        ):
            raise _used()
        return principal

    def _principal_of(self, claims: dict[str, Any], of: dict[str, Any]) -> Principal:
        return Principal(
            subject_of(claims["sub"]),
            tenant_of(claims.get("tenant")),
            scopes_of(claims["scope"]),
            runs=(claims["run"],),
            credential="ticket",
            token_id=of["jti"],
            api_key=of["key"],
            # Gateways of an older version made tickets without it.
            key_mark=of.get("mark"),
            issued_at=of["iat"],
            expires_at=of["exp"],
            once=(claims["jti"], claims["exp"]) if claims["once"] else None,
        )

    async def use_up(self, principal: Principal) -> None:
        """Let a ticket that is for one use have had it. Raises UnauthenticatedError (``ticket_used``)."""
        if principal.once is None:
            return
        ticket_id, expires_at = principal.once
        left_ms = int((expires_at - self._now() + LEEWAY_SECONDS) * 1000)
        key = self._keys.used_ticket(ticket_id)
        if left_ms <= 0 or await self._commands.command("SET", key, "1", "NX", "PX", left_ms) is None:
            raise _used()

    def _claims_of(self, text: str, secrets: Sequence[bytes]) -> dict[str, Any]:
        try:
            if len(text) > MAX_TOKEN_CHARS or jwt.get_unverified_header(text).get("typ") != TICKET_TYPE:
                raise _invalid()
        except UNREADABLE:
            raise _invalid() from None
        for secret in secrets:
            try:
                claims: dict[str, Any] = jwt.decode(
                    text,
                    secret,
                    [_ALGORITHM],
                    audience=_AUDIENCE,
                    # Another gateway made it, whose clock may be ahead.
                    leeway=LEEWAY_SECONDS,
                    options={"require": _REQUIRED},
                )
            except jwt.ExpiredSignatureError:
                raise _expired() from None
            except jwt.InvalidSignatureError:
                continue
            except UNREADABLE:
                break
            else:
                if claims["exp"] <= self._now():
                    # The leeway is for clocks that are behind; nothing is good for longer than it says.
                    raise _expired()
                return claims
        raise _invalid()

    async def _signing_secrets(self) -> tuple[bytes, ...]:
        if not self._secrets:
            key = self._keys.ticket_secret()
            await self._commands.command("SET", key, secrets.token_bytes(_KEY_BYTES), "NX")
            # Not kept here: after a flush, all gateways must find the same new one.
            return (await self._commands.command("GET", key),)
        return self._secrets


def _invalid() -> UnauthenticatedError:
    return UnauthenticatedError("invalid_ticket", "the ticket is none of ours; POST /v1/tickets gives them")


def _expired() -> UnauthenticatedError:
    return UnauthenticatedError("ticket_expired", "the ticket has expired; get a new one")


def _used() -> UnauthenticatedError:
    return UnauthenticatedError("ticket_used", "the ticket has already been used; get a new one")
