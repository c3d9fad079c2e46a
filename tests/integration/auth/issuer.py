"""Whoever gives tokens: the identity provider of the tests."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

import jwt

SECRET = "a-secret-of-the-tests-long-enough-to-sign-with"
SCOPES = ("read", "publish", "control", "submit", "admin")


class Issuer:
    def __init__(self, secret: str = SECRET) -> None:
        self.secret = secret
        self._numbers = itertools.count(1)

    def token(
        self,
        *,
        tenant: str | None = "acme",
        scopes: Iterable[str] = SCOPES,
        subject: str = "ann",
        seconds: float = 300.0,
        **claims: Any,
    ) -> str:
        now = time.time()
        said = {
            "sub": subject,
            "scope": " ".join(scopes),
            "iat": int(now),
            "exp": now + seconds,
            "jti": f"token-{next(self._numbers)}",
            **({} if tenant is None else {"tenant": tenant}),
            **claims,
        }
        return jwt.encode({name: value for name, value in said.items() if value is not None}, self.secret, "HS256")

    def headers(self, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**claims)}"}
