"""Which credentials have been revoked. Pure."""

from __future__ import annotations

from collections import Counter
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
        # The entries of the list that say so, whose ids begin with when that was, in Unix milliseconds.
        self._entries: dict[Revocation, str] = {}
        self._by_tenant: Counter[str | None] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def of_tenant(self, tenant: str | None) -> int:
        return self._by_tenant[tenant]

    def entry_of(self, revocation: Revocation) -> str | None:
        return self._entries.get(revocation)

    def add(self, revocation: Revocation, entry_id: str) -> None:
        before = self._entries.get(revocation)
        if before is None:
            self._by_tenant[revocation.tenant] += 1
        if before is None or _ms_of(before) <= _ms_of(entry_id):
            self._entries[revocation] = entry_id

    def forget_before(self, unix_ms: int) -> list[str]:
        """Forget tokens that have expired by then; gives their entries. API keys need not expire: all else stays."""
        lapsed = [
            (each, entry_id)
            for each, entry_id in self._entries.items()
            if each.kind == "token" and _ms_of(entry_id) < unix_ms
        ]
        for revocation, _ in lapsed:
            del self._entries[revocation]
            self._by_tenant[revocation.tenant] -= 1
        return [entry_id for _, entry_id in lapsed]

    def has(self, principal: Principal) -> bool:
        return bool(self._entries) and any(self._has(principal, tenant) for tenant in {principal.tenant, ANY_TENANT})

    def _has(self, principal: Principal, tenant: str | None) -> bool:
        known = self._entries
        if Revocation("token", tenant, principal.token_id or "") in known:
            return True
        if Revocation("api_key", tenant, principal.api_key or "") in known:
            return True
        entry_id = known.get(Revocation("subject", tenant, principal.subject))
        # A time of issue has whole seconds: what was issued later in the second of the revocation goes too.
        return entry_id is not None and principal.issued_at * 1000 <= _ms_of(entry_id)


def _ms_of(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])
