"""Which workers live, and which pipelines they run: each says so every few seconds, and is believed for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, Field, ValidationError

from tailrace.bus.model.counters import Counters
from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.commands import Commands, server_ms
from tailrace.bus.redis.script import EXPIRING

logger = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 10.0
BELIEVED_SECONDS: Final = 30
MAX_WORKERS: Final = 256
MAX_PIPELINES: Final = 200
# Of one worker's whole offer; a stranger's that is larger is not read.
MAX_OFFER_BYTES: Final = 256 * 1024


class OfferedPipeline(BaseModel):
    """``input_schema`` is a JSON Schema; None where the pipeline takes any JSON object, or it was too large."""

    name: str = Field(min_length=1, max_length=128)
    input_schema: dict[str, Any] | None = None
    steps: list[str] = Field(default_factory=list, max_length=1000)


class Offer(BaseModel):
    """What one worker takes. ``since_ms`` is when it began, in Unix milliseconds."""

    worker: str = Field(min_length=1, max_length=128)
    queues: list[str] = Field(max_length=64)
    concurrency: int = Field(ge=1)
    since_ms: int = Field(ge=0)
    pipelines: list[OfferedPipeline] = Field(max_length=MAX_PIPELINES)


class Offers:
    """Every method raises BusUnavailableError."""

    def __init__(self, commands: Commands, keys: Keys, counters: Counters) -> None:
        self._commands = commands
        self._keys = keys
        self._counters = counters

    async def publish(self, offer: Offer) -> None:
        """Say that a worker lives and what it takes; to be repeated every ``REFRESH_SECONDS``."""
        until = await server_ms(self._commands) + BELIEVED_SECONDS * 1000
        key = self._keys.worker_offer(offer.worker)
        await self._commands.command("SET", key, offer.model_dump_json(), "EX", BELIEVED_SECONDS)
        await EXPIRING.run(self._commands, (self._keys.workers(),), 2 * BELIEVED_SECONDS, "ZADD", until, offer.worker)

    async def withdraw(self, worker: str) -> None:
        """It takes no more."""
        await self._commands.command("ZREM", self._keys.workers(), worker)
        await self._commands.command("DEL", self._keys.worker_offer(worker))

    async def all(self) -> tuple[Sequence[Offer], bool]:
        """The workers that live, those that said so last first; and whether these are all of them."""
        now = await server_ms(self._commands)
        key = self._keys.workers()
        await self._commands.command("ZREMRANGEBYSCORE", key, "-inf", f"({now}")
        names = await self._commands.command("ZREVRANGE", key, 0, MAX_WORKERS)
        offers = await asyncio.gather(*(self._read(raw.decode(errors="replace")) for raw in names[:MAX_WORKERS]))
        return [offer for offer in offers if offer is not None], len(names) <= MAX_WORKERS

    async def _read(self, worker: str) -> Offer | None:
        """Check an offer, which any program may have written."""
        key = self._keys.worker_offer(worker)
        raw = await self._commands.command("GETRANGE", key, 0, MAX_OFFER_BYTES)
        if not raw:
            return None
        try:
            offer = Offer.model_validate_json(raw)
        except ValidationError:
            self._counters.add("offers_unusable")
            logger.warning("the offer of worker %r cannot be read; it is not listed", worker)
            return None
        return offer if offer.worker == worker else None


def fitting(pipelines: Sequence[OfferedPipeline]) -> list[OfferedPipeline]:
    """As many as may be offered, and of their schemas as many as fit; what is left out is logged."""
    kept: list[OfferedPipeline] = []
    room = MAX_OFFER_BYTES // 2
    for pipeline in pipelines[:MAX_PIPELINES]:
        size = len(pipeline.model_dump_json())
        if size > room or size > MAX_OFFER_BYTES // 8:
            logger.warning("pipeline %s: its schema of %d bytes is too large to be offered", pipeline.name, size)
            kept.append(OfferedPipeline(name=pipeline.name))
        else:
            room -= size
            kept.append(pipeline)
    if len(pipelines) > MAX_PIPELINES:
        logger.warning("of %d pipelines the first %d are offered", len(pipelines), MAX_PIPELINES)
    return kept
