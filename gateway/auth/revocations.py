"""The revocations that all gateways share: a Redis stream, of which each keeps what it has read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.commands import Commands
from tailrace.gateway.auth.revoked import Revocation, Revoked, parse_revocation
from tailrace.gateway.auth.tenant import ANY_TENANT
from tailrace.gateway.http.problems import ProblemError, unavailable

MAX_REVOCATIONS: Final = 100_000
MAX_OF_TENANT: Final = 10_000
_PAGE: Final = 1000


class Revocations:
    def __init__(
        self, commands: Commands, keys: Keys, *, kept_seconds: float, now: Callable[[], float] = time.time
    ) -> None:
        """``kept_seconds`` is how long a token may live at most: then its revocation is of no more use."""
        self.revoked = Revoked()
        self._commands = commands
        self._key = keys.revocations()
        self._kept_ms = int(kept_seconds * 1000)
        self._now = now
        self._last = "0-0"

    async def read_on(self) -> bool:
        """Take in what was revoked since; True when there was something. Raises BusUnavailableError."""
        news = False
        while True:
            page = await self._commands.command("XRANGE", self._key, f"({self._last}", "+", "COUNT", _PAGE)
            for entry_id, fields in page:
                self._last = entry_id.decode()
                revocation = parse_revocation(dict(zip(fields[::2], fields[1::2], strict=False)))
                if revocation is not None:
                    self.revoked.add(revocation, self._last)
                    news = True
            if len(page) < _PAGE:
                break
        lapsed = self.revoked.forget_before(int(self._now() * 1000) - self._kept_ms)
        for start in range(0, len(lapsed), _PAGE):
            await self._commands.command("XDEL", self._key, *lapsed[start : start + _PAGE])
        return news

    async def revoke(self, revocation: Revocation) -> None:
        """In force here at once, on other gateways within seconds. Raises BusUnavailableError, ProblemError."""
        await self.read_on()
        before = self.revoked.entry_of(revocation)
        if before is None:
            self._check_room(revocation.tenant)
        await self._commands.command("XADD", self._key, "*", *revocation.fields())
        if before is not None:
            await self._commands.command("XDEL", self._key, before)
        await self.read_on()

    def _check_room(self, tenant: str | None) -> None:
        """Of those who revoke for all, and for nobody's, the tenants cannot take the room."""
        is_full = len(self.revoked) >= MAX_REVOCATIONS and tenant not in {ANY_TENANT, None}
        if is_full or self.revoked.of_tenant(tenant) >= MAX_OF_TENANT:
            # To forget the oldest instead would make a credential good again.
            limit = MAX_REVOCATIONS if is_full else MAX_OF_TENANT
            detail = f"{limit:,} are in force; change the keys that sign tokens, or take the API keys out"
            raise ProblemError(unavailable("too_many_revocations", detail))
