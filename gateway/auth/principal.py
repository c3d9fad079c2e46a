"""Who asks, and what its credential covers. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from tailrace.bus.model.state import State
from tailrace.gateway.auth.scopes import SCOPES, Scope
from tailrace.gateway.auth.tenant import ANY_TENANT

Credential = Literal["none", "token", "api_key", "ticket"]

MAX_PATTERNS: Final = 32
_PATTERN: Final = re.compile(r"[A-Za-z0-9_*-]{1,128}", re.ASCII)
_MAX_STARS: Final = 4


@dataclass(frozen=True, slots=True)
class Principal:
    """Times are Unix seconds.

    ``runs`` are patterns of execution ids, in which ``*`` stands for any characters; None covers every execution of
    the tenant. ``token_id`` is the ``jti`` of a token, ``api_key`` the id of a key: of the credential itself, or, for
    a ticket, of the one that it was made with. ``key_mark`` tells a key from one that was made anew under its id.
    ``issued_at`` is 0 where the credential does not say. ``once`` is the id of a ticket that is for one use, and when
    that ticket expires.
    """

    subject: str
    tenant: str | None
    scopes: frozenset[Scope]
    runs: tuple[str, ...] | None = None
    credential: Credential = "token"
    token_id: str | None = None
    api_key: str | None = None
    key_mark: str | None = None
    issued_at: float = 0.0
    expires_at: float | None = None
    once: tuple[str, float] | None = None

    @property
    def covers_all(self) -> bool:
        """Nothing is to be asked about an execution: it is covered."""
        return self.tenant == ANY_TENANT and self.runs is None

    @property
    def lasts(self) -> bool:
        """Neither expires nor can be revoked."""
        return self.credential == "none"

    def names(self, execution_id: str) -> bool:
        """Whether its patterns name the execution, whosever that is."""
        return self.runs is None or any(fnmatchcase(execution_id, pattern) for pattern in self.runs)

    def covers(self, execution_id: str, tenant: str | None) -> bool:
        """Whether an execution of that tenant is covered."""
        return self.tenant in {ANY_TENANT, tenant} and self.names(execution_id)

    @property
    def account(self) -> str:
        """Whose limits it shares."""
        return f"{self.tenant or ''}/{self.subject}"


# Whether somebody may do something with an execution: read, publish, control or admin.
Authorize = Callable[[Principal, State, Scope], bool]

ANONYMOUS: Final = Principal("anonymous", ANY_TENANT, SCOPES, credential="none")


def is_run_pattern(pattern: str) -> bool:
    return _PATTERN.fullmatch(pattern) is not None and pattern.count("*") <= _MAX_STARS
