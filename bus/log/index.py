"""Which executions there are, and when a healer must look at one.

A hint, never the truth: it stands in other slots of a cluster than the executions, so it is written after the fact, and
again with every heartbeat. Lost, it comes back from those and from the gateways, who look after what they watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tailrace.bus.errors import InvalidExecutionIdError
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.labels import Labels, label_digest
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import EXPIRING, SCRIPT_CHUNK, Script

MAX_EXECUTIONS: Final = 100_000
# After this time without a write the index has nothing left to point at.
INDEX_SECONDS: Final = 7 * 24 * 3600
# Members beside the ones that are asked for, for those of the same millisecond that have been shown already.
TIES: Final = 16


class ExecutionIndex:
    """All times are Unix milliseconds of Redis's clock. Every method raises BusUnavailableError."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys
        self._due = Script.load("due")
        self._list = Script.load("list")

    async def note(
        self, execution_id: str, tenant: str | None, created_ms: int, labels: Labels = MappingProxyType({})
    ) -> None:
        """List an execution, by its tenant and labels too, where it was created; its id may have been used before."""
        keys = self._lists(tenant, labels)
        await asyncio.gather(
            *(
                self._list.run(self._commands, (key,), execution_id, created_ms, MAX_EXECUTIONS, INDEX_SECONDS)
                for key in keys
            )
        )

    async def look_at(self, execution_id: str, at_ms: int) -> None:
        """Schedule a look at it at that time, or before."""
        await self._schedule({execution_id: at_ms}, "LT")

    async def look_at_all(self, at_ms: Mapping[str, int]) -> None:
        """Schedule a look at each at its time, and not before."""
        await self._schedule(at_ms)

    async def restore(self, at_ms: Mapping[str, int]) -> None:
        """Schedule a look at those that the index has lost."""
        await self._schedule(at_ms, "NX")

    async def drop(self, *execution_ids: str) -> None:
        """Schedule no more looks at these; they stay listed."""
        await self._commands.command("ZREM", self._keys.due(), *execution_ids)

    async def remove(self, execution_id: str, tenant: str | None, labels: Labels = MappingProxyType({})) -> None:
        """Schedule no more looks at it, and list it no more."""
        keys = [self._keys.due(), *self._lists(tenant, labels)]
        await asyncio.gather(*(self._commands.command("ZREM", key, execution_id) for key in keys))

    async def claim_due(self, count: int, again_after_ms: int) -> list[str]:
        """Take at most ``count`` that are due; other callers get them only after ``again_after_ms``."""
        ids: list[bytes] = await self._due.run(self._commands, (self._keys.due(),), count, again_after_ms)
        claimed = []
        for raw in ids:
            execution_id = _checked(raw)
            if execution_id is None:
                # A stranger's: nothing could ever come of it.
                await self._commands.command("ZREM", self._keys.due(), raw)
            else:
                claimed.append(execution_id)
        return claimed

    async def was_due(self, at_ms: int) -> bool:
        """Whether any was to be looked at in the hour before, and has not been."""
        return bool(await self._commands.command("ZCOUNT", self._keys.due(), max(1, at_ms - 3_600_000), at_ms))

    async def newest(
        self,
        tenant: str | None,
        before: tuple[int, str] | None = None,
        count: int = 100,
        *,
        label: tuple[str, str] | None = None,
    ) -> list[tuple[int, str]]:
        """The times of creation and ids of a tenant's executions (of all for None), the newest first.

        With a ``label``, of those that have it. ``before`` is the last that was seen. They may have ended, and even
        have been forgotten since.
        """
        key = self._keys.executions(tenant) if label is None else self._keys.labelled(tenant, label_digest(*label))
        found: list[tuple[int, str]] = []
        start: int | str = "+inf" if before is None else before[0]
        offset, page = 0, count + TIES
        while len(found) < count:
            reply = await self._commands.command(
                "ZRANGE", key, start, "-inf", "BYSCORE", "REV", "LIMIT", offset, page, "WITHSCORES"
            )
            for member, raw_score in reply:
                execution_id, score = _checked(member), int(raw_score)
                if execution_id is not None and (before is None or (score, execution_id) < before):
                    found.append((score, execution_id))
            if len(reply) < page:
                break
            offset += page
        return found[:count]

    def _lists(self, tenant: str | None, labels: Labels) -> list[str]:
        tenants = (None,) if tenant is None else (None, tenant)
        digests = [label_digest(*label) for label in labels.items()]
        return [
            *map(self._keys.executions, tenants),
            *(self._keys.labelled(each, digest) for each in tenants for digest in digests),
        ]

    async def _schedule(self, at_ms: Mapping[str, int], *conditions: str) -> None:
        pairs: list[str | int] = []
        for execution_id, score in at_ms.items():
            pairs += (score, execution_id)
        chunks = (pairs[start : start + 2 * SCRIPT_CHUNK] for start in range(0, len(pairs), 2 * SCRIPT_CHUNK))
        key = self._keys.due()
        await asyncio.gather(
            *(EXPIRING.run(self._commands, (key,), INDEX_SECONDS, "ZADD", *conditions, *each) for each in chunks)
        )


def _checked(raw: bytes) -> str | None:
    try:
        return check_execution_id(raw.decode(errors="replace"))
    except InvalidExecutionIdError:
        return None
