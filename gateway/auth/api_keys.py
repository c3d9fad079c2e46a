"""API keys: long random secrets, of which only a digest is kept. Pure, but for making one.

A key is ``trk_ID_SECRET``. Its secret has 256 random bits, so it cannot be found by trying, and a plain SHA-256 keeps
it as well as a slow password hash would.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from tailrace.gateway.auth.claims import runs_of, tenant_of
from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.refusals import UnauthenticatedError, invalid_token
from tailrace.gateway.auth.scopes import Scope
from tailrace.gateway.errors import GatewayError

LEAD: Final = "trk_"
_SECRET_BYTES: Final = 32
_MARK_CHARS: Final = 16

T = TypeVar("T")
KeyId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]


class ApiKey(BaseModel):
    """What the file, or the setting, says of a key. ``created`` and ``expires`` are Unix seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: KeyId
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    subject: str = Field(min_length=1, max_length=256)
    tenant: str | None = None
    scopes: frozenset[Scope]
    runs: tuple[str, ...] | None = None
    created: float = 0.0
    expires: float | None = None

    @field_validator("tenant")
    @classmethod
    def _check_tenant(cls, given: str | None) -> str | None:
        return _checked(tenant_of, given)

    @field_validator("runs")
    @classmethod
    def _check_runs(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return _checked(runs_of, given)

    @property
    def principal(self) -> Principal:
        return Principal(
            self.subject,
            self.tenant,
            self.scopes,
            self.runs,
            credential="api_key",
            api_key=self.id,
            key_mark=self.sha256[:_MARK_CHARS],
            issued_at=self.created,
            expires_at=self.expires,
        )

    def still_covers(self, principal: Principal) -> bool:
        """Whether what this key, or a ticket of it, was given once is covered by it as it stands now."""
        now = self.principal
        is_the_same = (now.key_mark, now.subject, now.tenant, now.issued_at) == (
            principal.key_mark,
            principal.subject,
            principal.tenant,
            principal.issued_at,
        )
        lasts = now.expires_at is None or (principal.expires_at or math.inf) <= now.expires_at
        return is_the_same and lasts and principal.scopes <= now.scopes and _covers_runs(now, principal.runs)


def _covers_runs(principal: Principal, patterns: tuple[str, ...] | None) -> bool:
    if principal.runs is None:
        return True
    return patterns is not None and all(
        pattern in principal.runs or ("*" not in pattern and principal.names(pattern)) for pattern in patterns
    )


_KEYS: Final[TypeAdapter[tuple[ApiKey, ...]]] = TypeAdapter(tuple[ApiKey, ...])


class UnusableApiKeysError(GatewayError):
    """The document is no list of keys; names the place, and repeats no value."""


def parse_api_keys(document: str | bytes) -> tuple[ApiKey, ...]:
    """Raises UnusableApiKeysError."""
    try:
        keys = _KEYS.validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UnusableApiKeysError(f"{'.'.join(map(str, first['loc'])) or 'keys'}: {first['msg']}") from None
    if len({key.id for key in keys}) != len(keys):
        raise UnusableApiKeysError("two keys have the same id")
    return keys


@dataclass(frozen=True, slots=True)
class ApiKeys:
    by_id: Mapping[str, ApiKey]

    @classmethod
    def of(cls, *sources: Iterable[ApiKey]) -> ApiKeys:
        return cls({key.id: key for source in sources for key in source})

    def verify(self, presented: str, now: float) -> Principal:
        """Raises UnauthenticatedError, alike for an unknown id and a wrong secret."""
        key_id, _, secret = presented.removeprefix(LEAD).partition("_")
        key = self.by_id.get(key_id)
        good = hmac.compare_digest(digest_of(secret), key.sha256 if key is not None else digest_of(""))
        if key is None or not good:
            raise invalid_token("the API key is not known here")
        if key.expires is not None and key.expires <= now:
            raise UnauthenticatedError("token_expired", "the API key has expired; ask for a new one")
        return key.principal


def new_api_key(key_id: str) -> tuple[str, str]:
    """Make a key: what its bearer keeps, and the digest that the gateway keeps."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    return f"{LEAD}{key_id}_{secret}", digest_of(secret)


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _checked(check: Callable[[object], T], given: object) -> T:
    try:
        return check(given)
    except UnauthenticatedError as error:
        raise ValueError(error.problem.detail) from None
