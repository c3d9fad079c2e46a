"""The revocations that all gateways share: a Redis stream, of which each keeps what it has read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.commands import Commands
from tailrace.gateway.auth.revoked import Revocation, Revoked, parse_revocation
from tailrace.gateway.http.problems import ProblemError, unavailable

MAX_REVOCATIONS: Final = 100_000
_PAGE: Final = 1000


class Revocations:
    def __init__(
        self, commands: Commands, keys: Keys, *, kept_seconds: float, now: Callable[[], float] = time.time
    ) -> None:
        """``kept_seconds`` is how long a token may live at most: then its revocation is of no use any more."""
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
                    self.revoked.add(revocation, int(self._last.partition("-")[0]))
                    news = True
            if len(page) < _PAGE:
                break
        self.revoked.forget_before(self._oldest_ms())
        return news

    async def revoke(self, revocation: Revocation) -> None:
        """In force here at once, on other gateways within seconds. Raises BusUnavailableError, ProblemError."""
        await self._commands.command("XTRIM", self._key, "MINID", self._oldest_ms())
        if await self._commands.command("XLEN", self._key) >= MAX_REVOCATIONS:
            # To forget the oldest instead would make a token good again.
            raise ProblemError(
                unavailable("too_many_revocations", f"{MAX_REVOCATIONS} are in force; change the keys that sign tokens")
            )
        await self._commands.command("XADD", self._key, "*", *revocation.fields())
        await self.read_on()

    def _oldest_ms(self) -> int:
        return int(self._now() * 1000) - self._kept_ms
