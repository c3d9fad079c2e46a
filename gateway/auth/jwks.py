"""Keys that signatures are checked with, as JSON Web Keys (RFC 7517). Pure; PyJWT does the cryptography."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

import jwt
import orjson

from tailrace.gateway.errors import GatewayError

logger = logging.getLogger(__name__)

# What a signature may be made with, and the kind of key for it: a public key is never taken for a shared secret.
KEY_TYPES: Final = {"HS256": "oct", "RS256": "RSA", "ES256": "EC"}
MIN_SECRET_BYTES: Final = 32
_MIN_RSA_BITS: Final = 2048


class UnusableKeysError(GatewayError):
    """The document is no key set."""


@dataclass(frozen=True, slots=True, repr=False)
class VerifyingKey:
    """``key`` is what PyJWT takes for ``algorithm``. Never shown: it may be a secret."""

    algorithm: str
    key: Any
    key_id: str | None = None

    def suits(self, algorithm: str, key_id: str | None) -> bool:
        """A token without a ``kid`` may be of any key, and so may one be that a key without a ``kid`` signed."""
        return self.algorithm == algorithm and (key_id is None or self.key_id is None or self.key_id == key_id)


def parse_jwks(document: bytes, *, secrets: bool) -> tuple[VerifyingKey, ...]:
    """Keys of other kinds, for other uses, and weak ones are passed over (RFC 7517, section 5).

    ``secrets`` lets in symmetric keys, which have no place in what everybody can fetch. Raises UnusableKeysError.
    """
    try:
        members = orjson.loads(document)["keys"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UnusableKeysError("it is not a JSON object with a list 'keys'") from None
    if not isinstance(members, list):
        raise UnusableKeysError("'keys' is not a list")
    found = (_key_of(member, secrets=secrets) for member in members)
    return tuple(key for key in found if key is not None)


def _key_of(member: Any, *, secrets: bool) -> VerifyingKey | None:
    if not isinstance(member, dict) or member.get("use", "sig") != "sig":
        return None
    algorithm = next((name for name, kind in KEY_TYPES.items() if kind == member.get("kty")), None)
    if algorithm is None or member.get("alg", algorithm) != algorithm or (algorithm == "HS256" and not secrets):
        return None
    key_id = member.get("kid")
    try:
        key = jwt.PyJWK.from_dict(member, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        logger.warning("a key of the key set cannot be used: %s", type(error).__name__)
        return None
    if not _is_strong(algorithm, key):
        logger.warning("a key of the key set is too weak for %s and is not used", algorithm)
        return None
    return VerifyingKey(algorithm, key, key_id if isinstance(key_id, str) else None)


def _is_strong(algorithm: str, key: Any) -> bool:
    match algorithm:
        case "HS256":
            return len(key) >= MIN_SECRET_BYTES
        case "RS256":
            return bool(key.key_size >= _MIN_RSA_BITS)
        case _:
            return bool(key.curve.name == "secp256r1")
