"""JSON Web Tokens (RFC 7519), checked as RFC 8725 asks. PyJWT does the cryptography."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jwt

from tailrace.gateway.auth.claims import principal_of
from tailrace.gateway.auth.jwks import KEY_TYPES
from tailrace.gateway.auth.keyring import Keyring
from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.refusals import UnauthenticatedError, invalid_token
from tailrace.gateway.http.problems import ProblemError, unavailable

MAX_TOKEN_CHARS: Final = 8192
LEEWAY_SECONDS: Final = 5.0
TICKET_TYPE: Final = "ticket+jwt"

# What PyJWT raises for text that no issuer made: beside its own errors those of Python for nested lists, for numbers as
# large as infinity, and for members of other types than it takes for granted.
UNREADABLE: Final = (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say beside its signature. ``max_seconds`` bounds how long it may still be good for."""

    audience: str | None
    issuer: str | None
    tenant_claim: str
    max_seconds: float


class Tokens:
    def __init__(self, keyring: Keyring, rules: TokenRules, now: Callable[[], float]) -> None:
        """``now`` is in Unix seconds."""
        self._keyring = keyring
        self._rules = rules
        self._now = now

    async def verify(self, token: str) -> Principal:
        """Raises UnauthenticatedError (``token_expired``, ``invalid_token``), ProblemError (``keys_unavailable``)."""
        algorithm, key_id = _header_of(token)
        keys = [key.key for key in await self._keyring.candidates(algorithm, key_id)]
        if not keys and self._keyring.is_empty:
            raise ProblemError(unavailable("keys_unavailable", "this gateway could not get the keys of tokens yet"))
        claims = self._claims_of(token, algorithm, keys)
        if claims is None:
            keys = [key.key for key in await self._keyring.newer(algorithm, key_id)]
            claims = self._claims_of(token, algorithm, keys)
        if claims is None:
            raise _unverifiable()
        principal = principal_of(claims, tenant_claim=self._rules.tenant_claim)
        left_seconds = (principal.expires_at or 0) - self._now()
        if left_seconds <= 0:
            # The leeway is for clocks that are behind the issuer's; nothing is good for longer than it says.
            raise _expired()
        if left_seconds > self._rules.max_seconds:
            # A revocation is remembered for so long.
            raise invalid_token(f"the token is good for longer than {self._rules.max_seconds:g} s")
        return principal

    def _claims_of(self, token: str, algorithm: str, keys: list[Any]) -> dict[str, Any] | None:
        """None where its signature is of none of the keys."""
        for key in keys:
            try:
                return self._decode(token, algorithm, key)
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                raise _expired() from None
            except jwt.MissingRequiredClaimError as error:
                raise invalid_token(f"the token lacks the claim {error.claim!r}") from None
            except jwt.InvalidAudienceError:
                raise invalid_token("the token is for another audience") from None
            except jwt.InvalidIssuerError:
                raise invalid_token("the token is of another issuer") from None
            except jwt.ImmatureSignatureError:
                raise invalid_token("the token is not good yet; compare the clocks") from None
            except UNREADABLE:
                raise _unverifiable() from None
        return None

    def _decode(self, token: str, algorithm: str, key: Any) -> dict[str, Any]:
        rules = self._rules
        decoded: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=rules.audience,
            issuer=rules.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "sub"], "verify_aud": rules.audience is not None},
        )
        return decoded


def _unverifiable() -> UnauthenticatedError:
    return invalid_token("the token is not one that this gateway can verify")


def _expired() -> UnauthenticatedError:
    return UnauthenticatedError("token_expired", "the token has expired; get a new one")


def _header_of(token: str) -> tuple[str, str | None]:
    if len(token) > MAX_TOKEN_CHARS:
        raise invalid_token(f"a token has at most {MAX_TOKEN_CHARS} characters")
    try:
        header = jwt.get_unverified_header(token)
    except UNREADABLE:
        raise invalid_token("the token is no JSON Web Token, nor an API key") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in KEY_TYPES or header.get("typ") == TICKET_TYPE:
        raise invalid_token(f"a token must be signed with one of {', '.join(KEY_TYPES)}; a ticket is not accepted here")
    return algorithm, key_id if isinstance(key_id, str) else None
