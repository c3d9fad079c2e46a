"""Keys and tokens for the tests of what is done with them."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER_SECRET = b"fedcba9876543210fedcba9876543210"


@cache
def rsa_key(name: str, bits: int = 2048, /) -> rsa.RSAPrivateKey:
    """One for each name; making it takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_jwk(name: str, bits: int = 2048, **members: Any) -> dict[str, Any]:
    return {
        **json.loads(RSAAlgorithm.to_jwk((rsa_key(name) if bits == 2048 else rsa_key(name, bits)).public_key())),
        "kid": name,
        **members,
    }


def ec_jwk(name: str, **members: Any) -> dict[str, Any]:
    return {**json.loads(ECAlgorithm.to_jwk(ec_key(name).public_key())), "kid": name, **members}


def secret_jwk(secret: bytes, **members: Any) -> dict[str, Any]:
    return {**json.loads(HMACAlgorithm.to_jwk(secret)), **members}


def jwks(*members: dict[str, Any]) -> bytes:
    return json.dumps({"keys": members}).encode()


def claims(**said: Any) -> dict[str, Any]:
    now = time.time()
    plain = {"sub": "ann", "tenant": "acme", "scope": "read", "iat": int(now), "exp": now + 60}
    return {name: value for name, value in {**plain, **said}.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, /, **said: Any) -> str:
    return jwt.encode(claims(**said), key, algorithm, headers=headers)
