"""Which credentials have been revoked. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.tenant import ANY_TENANT

# The id of a token, the id of an API key, or all that a subject was given until then.
RevocationKind = Literal["token", "api_key", "subject"]
_KINDS: Final = frozenset({"token", "api_key", "subject"})


@dataclass(frozen=True, slots=True)
class Revocation:
    """``tenant`` is that of the credential; with ``*``, the credential may be of any."""

    kind: RevocationKind
    tenant: str | None
    value: str

    def fields(self) -> tuple[str, ...]:
        return ("k", self.kind, "t", self.tenant or "", "v", self.value)


def parse_revocation(fields: dict[bytes, bytes]) -> Revocation | None:
    """None for what is no revocation."""
    kind = fields.get(b"k", b"").decode(errors="replace")
    value = fields.get(b"v", b"").decode(errors="replace")
    if kind not in _KINDS or not value:
        return None
    return Revocation(cast("RevocationKind", kind), fields.get(b"t", b"").decode(errors="replace") or None, value)


class Revoked:
    """Looked at with every request: a lookup, however many there are."""

    def __init__(self) -> None:
        # When it was revoked, in Unix milliseconds.
        self._at_ms: dict[Revocation, int] = {}

    def __len__(self) -> int:
        return len(self._at_ms)

    def add(self, revocation: Revocation, at_ms: int) -> None:
        self._at_ms[revocation] = max(at_ms, self._at_ms.get(revocation, 0))

    def forget_before(self, unix_ms: int) -> None:
        for revocation in [each for each, at_ms in self._at_ms.items() if at_ms < unix_ms]:
            del self._at_ms[revocation]

    def has(self, principal: Principal) -> bool:
        return bool(self._at_ms) and any(self._has(principal, tenant) for tenant in {principal.tenant, ANY_TENANT})

    def _has(self, principal: Principal, tenant: str | None) -> bool:
        known = self._at_ms
        if Revocation("token", tenant, principal.token_id or "") in known:
            return True
        if Revocation("api_key", tenant, principal.api_key or "") in known:
            return True
        at_ms = known.get(Revocation("subject", tenant, principal.subject))
        # A time of issue has whole seconds: what was issued later in the second of the revocation goes too.
        return at_ms is not None and principal.issued_at * 1000 <= at_ms
