"""Who is let in: the part of the gateway's environment that is about credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode

from tailrace.gateway.auth.api_keys import ApiKey, UnusableApiKeysError, parse_api_keys
from tailrace.gateway.auth.jwks import MIN_SECRET_BYTES, UnusableKeysError, parse_jwks
from tailrace.gateway.auth.origins import as_browsers_write, is_origin
from tailrace.gateway.http.loopback import is_loopback

_DAY_SECONDS: Final = 86400.0
_SOURCES: Final = ("jwt_hs256_keys", "jwks_url", "jwks_file", "api_keys", "api_keys_file")

# Those of a token are given by commas; the first of them signs, where something is to be signed.
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


class AuthSettings(BaseSettings):
    """Without any key, everybody may do everything, and the gateway serves loopback only."""

    jwt_hs256_keys: Secrets = Field((), description="secrets that sign tokens, by commas: all of them are accepted")
    jwks_url: str | None = Field(None, description="key set of RS256 and ES256 tokens; fetched again as keys change")
    jwks_file: Path | None = Field(None, description="key set, secrets (`oct`) too; read again when it changes")
    jwt_audience: str | None = Field(None, min_length=1, validate_default=True, description="`aud` of our tokens")
    jwt_issuer: str | None = Field(None, min_length=1, description="`iss` of our tokens")
    jwt_tenant_claim: str = Field("tenant", min_length=1, description="the claim that names the tenant")
    max_token_seconds: float = Field(
        90 * _DAY_SECONDS, gt=0, description="tokens good for longer are refused; revocations are kept for so long"
    )
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = Field((), description="as in the file, as JSON")
    api_keys_file: Path | None = Field(None, description="API keys, by their digests; read again when it changes")
    ticket_keys: Secrets = Field((), description="secrets that sign tickets, by commas; unset keeps one in Redis")
    ticket_seconds: float = Field(60.0, ge=1, le=600, description="how long a ticket opens streams")
    auth_cookie: str = Field("tailrace_token", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="cookie with a token")
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins whose pages may use this gateway (CORS), by commas"
    )

    @property
    def auth_required(self) -> bool:
        return any(getattr(self, name) for name in _SOURCES)

    @field_validator("jwt_hs256_keys", "ticket_keys", mode="before")
    @classmethod
    def _split_secrets(cls, given: object) -> object:
        return tuple(key.strip() for key in given.split(",") if key.strip()) if isinstance(given, str) else given

    @field_validator("jwt_hs256_keys", "ticket_keys")
    @classmethod
    def _check_secrets(cls, given: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value().encode()) < MIN_SECRET_BYTES for key in given):
            raise ValueError(
                f"each key has {MIN_SECRET_BYTES} bytes or more (RFC 7518, section 3.2): openssl rand -hex 32"
            )
        return given

    @field_validator("jwks_file", "api_keys_file")
    @classmethod
    def _check_file(cls, given: Path | None, info: ValidationInfo) -> Path | None:
        """At start a file that gives no keys is a mistake; later its last keys stay good."""
        if given is None:
            return None
        try:
            document = given.read_bytes()
            _ = parse_api_keys(document) if info.field_name == "api_keys_file" else parse_jwks(document, secrets=True)
        except OSError as error:
            raise ValueError(f"{given} cannot be read: {error.strerror}") from None
        except (UnusableApiKeysError, UnusableKeysError) as error:
            raise ValueError(f"{given}: {error}") from None
        return given

    @field_validator("jwks_url")
    @classmethod
    def _check_url(cls, given: str | None) -> str | None:
        if given is None:
            return None
        parts = urlsplit(given)
        if not parts.hostname or not (
            parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
        ):
            raise ValueError("must be an https:// URL: anyone who can change the answer can sign tokens")
        return given

    @field_validator("jwt_audience")
    @classmethod
    def _check_audience(cls, given: str | None, info: ValidationInfo) -> str | None:
        if given is None and info.data.get("jwks_url") is not None:
            raise ValueError("is needed with TAILRACE_JWKS_URL: its keys sign tokens for other services too")
        return given

    @field_validator("api_keys", mode="before")
    @classmethod
    def _parse_api_keys(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        try:
            return parse_api_keys(given)
        except UnusableApiKeysError as error:
            raise ValueError(str(error)) from None

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, given: object) -> object:
        if isinstance(given, str):
            return tuple(origin.strip().lower() for origin in given.split(",") if origin.strip())
        return given

    @field_validator("allowed_origins")
    @classmethod
    def _check_origins(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for origin in given:
            if origin != "*" and not is_origin(origin):
                raise ValueError(f"{origin!r} is not an origin; write it like 'https://app.example', without a path")
        return tuple(map(as_browsers_write, given))


def check_host(host: str, *, auth_required: bool) -> str:
    """Raises ValueError."""
    if not auth_required and not is_loopback(host):
        names = ", ".join(f"TAILRACE_{name.upper()}" for name in _SOURCES)
        raise ValueError(
            f"a gateway without authentication listens on loopback only: {host!r} is not a loopback address, "
            f"and none of {names} is set"
        )
    return host
