"""Executions that are to be cancelled when nobody watches them any more, over all gateways.

Two sorted sets in Redis, by the time at which somebody is to look: ``watched``, which the gateways with such viewers
push on while they have them, and ``alone``, of those that nobody was found to watch. A gateway that dies pushes nothing
on, so its executions become due as if their viewers had left.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from tailrace.bus import Bus, BusError, BusUnavailableError
from tailrace.bus.redis.commands import server_ms
from tailrace.gateway.presence.presence import REFRESH_SECONDS, Presence

logger = logging.getLogger(__name__)

ROUND_SECONDS: Final = 1.0
# So long a gateway may be late before its viewers count as gone.
BELIEVED_MS: Final = 4000
# What other gateways know of a viewer that came over another route is so old at most.
MARGIN_MS: Final = int(REFRESH_SECONDS * 1000) + 1000
MAX_A_ROUND: Final = 100
REASON: Final = "nobody watches it any more"

# Grace in milliseconds, and the execution: a member says all that there is to know.
_Watched = tuple[int, str]


class Unwatched:
    def __init__(self, bus: Bus, presence: Presence) -> None:
        self._bus = bus
        self._presence = presence
        self._here: Counter[_Watched] = Counter()
        self._left: set[_Watched] = set()
        self._keys = bus.keys.unwatched("watched"), bus.keys.unwatched("alone")

    async def watch(self, execution_id: str, grace_seconds: float) -> None:
        """Before a viewer is let in: from now on the execution is looked after. Raises BusUnavailableError."""
        watched, alone = self._keys
        member = _member((int(grace_seconds * 1000), execution_id))
        due = await server_ms(self._bus.commands) + BELIEVED_MS
        await self._bus.commands.command("ZADD", watched, due, member)
        await self._bus.commands.command("ZREM", alone, member)

    def enter(self, execution_id: str, grace_seconds: float) -> None:
        """A viewer is here."""
        self._here[int(grace_seconds * 1000), execution_id] += 1

    def leave(self, execution_id: str, grace_seconds: float) -> None:
        watched = (int(grace_seconds * 1000), execution_id)
        self._here[watched] -= 1
        if not self._here[watched]:
            del self._here[watched]
            self._left.add(watched)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        task = asyncio.create_task(self._look_on(), name="presence:unwatched")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            try:
                await self.look()
            except BusUnavailableError as error:
                # Nobody is cancelled meanwhile: the gateways push on before they look.
                logger.debug("executions that nobody watches: %s; retrying", error)
            except Exception:
                logger.exception("looking after executions that nobody watches failed; retrying")

    async def look(self) -> None:
        """Push on what is watched here, and look after what is due. Raises BusUnavailableError."""
        watched, alone = self._keys
        now = await server_ms(self._bus.commands)
        await self._push_on(watched, now)
        for member in await self._due(watched, now):
            grace_ms, execution_id = _parsed(member)
            if await self._is_watched(execution_id):
                await self._bus.commands.command("ZADD", watched, now + BELIEVED_MS, member)
            else:
                await self._bus.commands.command("ZADD", alone, now + grace_ms + MARGIN_MS, member)
                await self._bus.commands.command("ZREM", watched, member)
        for member in await self._due(alone, now):
            _, execution_id = _parsed(member)
            if await self._is_watched(execution_id):
                await self._bus.commands.command("ZADD", watched, now + BELIEVED_MS, member)
                await self._bus.commands.command("ZREM", alone, member)
            # Whoever takes it out is the one who cancels; what it does not get done is due again.
            elif await self._bus.commands.command("ZREM", alone, member):
                await self._cancel(execution_id, member)

    async def _push_on(self, watched: str, now: int) -> None:
        left, self._left = self._left, set()
        scores: list[bytes | int] = []
        for each in left:
            if each not in self._here:
                scores += [now, _member(each)]
        for each in self._here:
            scores += [now + BELIEVED_MS, _member(each)]
        for start in range(0, len(scores), 1000):
            await self._bus.commands.command("ZADD", watched, *scores[start : start + 1000])

    async def _due(self, key: str, now: int) -> list[bytes]:
        due: list[bytes] = await self._bus.commands.command(
            "ZRANGE", key, "-inf", now, "BYSCORE", "LIMIT", 0, MAX_A_ROUND
        )
        return due

    async def _is_watched(self, execution_id: str) -> bool:
        return (await self._presence.subscribers(execution_id)).total > 0

    async def _cancel(self, execution_id: str, member: bytes) -> None:
        try:
            state = await self._bus.state(execution_id)
            if state is None or state.ended:
                return
            await self._bus.control.cancel(execution_id, reason=REASON)
        except BusUnavailableError:
            await self._bus.commands.command("ZADD", self._keys[1], 0, member)
            raise
        except BusError as error:
            logger.info("%s, which nobody watches, was not cancelled: %s", execution_id, error)
        else:
            self._bus.counters.add("cancelled_unwatched")
            logger.info("%s cancelled: %s", execution_id, REASON)


def _member(watched: _Watched) -> bytes:
    return b"%d:%b" % (watched[0], watched[1].encode())


def _parsed(member: bytes) -> _Watched:
    grace_ms, _, execution_id = member.decode().partition(":")
    return int(grace_ms), execution_id
