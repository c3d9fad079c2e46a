"""The claims of a token whose signature holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeGuard

from tailrace.bus.model.submission import is_tenant
from tailrace.gateway.auth.principal import MAX_PATTERNS, Credential, Principal, is_run_pattern
from tailrace.gateway.auth.refusals import invalid_token
from tailrace.gateway.auth.scopes import SCOPES, Scope
from tailrace.gateway.auth.tenant import ANY_TENANT

# RFC 8693, section 4.2, and what others call it.
_SCOPE_CLAIMS: Final = ("scope", "scopes", "scp")
_MAX_SUBJECT_CHARS: Final = 256


def principal_of(claims: Mapping[str, Any], *, tenant_claim: str, credential: Credential = "token") -> Principal:
    """Scopes that are not ours are passed over: a token may be for other services too.

    Raises UnauthenticatedError that names the claim.
    """
    token_id = claims.get("jti")
    issued_at, expires_at = claims.get("iat", 0), claims.get("exp")
    return Principal(
        subject=subject_of(claims.get("sub")),
        tenant=tenant_of(claims.get(tenant_claim), tenant_claim),
        scopes=scopes_of(next((claims[name] for name in _SCOPE_CLAIMS if name in claims), None)),
        runs=runs_of(claims.get("runs")),
        credential=credential,
        token_id=token_id if isinstance(token_id, str) else None,
        issued_at=float(issued_at) if isinstance(issued_at, int | float) else 0.0,
        expires_at=float(expires_at) if isinstance(expires_at, int | float) else None,
    )


def subject_of(given: object) -> str:
    if not isinstance(given, str) or not 0 < len(given) <= _MAX_SUBJECT_CHARS:
        raise invalid_token(f"the claim 'sub' has 1 to {_MAX_SUBJECT_CHARS} characters")
    return given


def tenant_of(given: object, claim: str = "tenant") -> str | None:
    if given is None:
        return None
    if isinstance(given, str) and (given == ANY_TENANT or is_tenant(given)):
        return given
    raise invalid_token(
        f"the claim {claim!r} is '*' or a tenant: up to 64 letters, digits, '-', and single '_' between them"
    )


def scopes_of(given: object) -> frozenset[Scope]:
    words = given.split() if isinstance(given, str) else given
    if not _are_texts(words):
        raise invalid_token("the claim 'scope' is a list of scopes, or a text with spaces between them")
    return _shared(frozenset(words))


@lru_cache(maxsize=1024)
def _shared(words: frozenset[str]) -> frozenset[Scope]:
    """One object for all who have the same: thousands of live connections hold on to it."""
    return frozenset(scope for scope in SCOPES if scope in words)


def runs_of(given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not _are_texts(given) or len(given) > MAX_PATTERNS or not all(is_run_pattern(pattern) for pattern in given):
        raise invalid_token(
            f"the claim 'runs' is a list of at most {MAX_PATTERNS} execution ids, in which '*' may stand"
        )
    return tuple(given)


def _are_texts(given: object) -> TypeGuard[Sequence[str]]:
    return isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(each, str) for each in given)
