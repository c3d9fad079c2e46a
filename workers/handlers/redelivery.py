"""Events that somebody has requeued, given once more to the handler that had failed at them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tailrace.bus.activity.undelivered import Undelivered, UndeliveredEvent
from tailrace.bus.bus import Bus
from tailrace.bus.errors import BusClosedError, BusUnavailableError
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import just_before
from tailrace.bus.model.entry import Entry
from tailrace.workers.handlers.delivery import Delivery

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
TAKE_COUNT: Final = 16


class Redelivery:
    """One reader's share of what a group has requeued."""

    def __init__(
        self,
        bus: Bus,
        undelivered: Undelivered,
        handle: Callable[[str, Delivery], Awaitable[bool]],
        reader: str,
    ) -> None:
        """``handle`` gives an event to the handler of a name; False where there is none."""
        self._bus = bus
        self._undelivered = undelivered
        self._handle = handle
        self._reader = reader
        self._lease_seconds = bus.settings.lease_seconds

    async def run(self) -> None:
        """Until cancelled, or the bus is closed; outages are waited for."""
        while True:
            try:
                taken = await self._undelivered.take(self._reader, idle_seconds=self._lease_seconds, count=TAKE_COUNT)
                if taken:
                    await self._handle_all(taken)
                    continue
            except BusClosedError:
                return
            except BusUnavailableError as error:
                logger.debug("group %s: what is requeued could not be read: %s", self._undelivered.group, error)
            await asyncio.sleep(LOOK_SECONDS)

    async def _handle_all(self, taken: Sequence[UndeliveredEvent]) -> None:
        left = {letter.entry_id: letter for letter in taken}
        keeping = asyncio.create_task(self._keep(left))
        try:
            for letter in taken:
                await self._again(letter)
                await self._undelivered.done(letter.entry_id)
                del left[letter.entry_id]
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep(self, left: dict[str, UndeliveredEvent]) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            try:
                await self._undelivered.keep(self._reader, list(left))
            except BusUnavailableError as error:
                logger.debug("group %s: what is held was not renewed: %s", self._undelivered.group, error)

    async def _again(self, letter: UndeliveredEvent) -> None:
        page = await self._bus.log.read(letter.execution_id, Numbering.after(just_before(letter.cursor)), 1)
        for item in page.items:
            if isinstance(item, Entry) and item.cursor == letter.cursor:
                if await self._handle(letter.handler, Delivery.of(letter.execution_id, item, repeated=True)):
                    return
                await self._give_back(letter, "there is no handler of that name for it")
                return
        await self._give_back(letter, "the event is not in the log any more")

    async def _give_back(self, letter: UndeliveredEvent, why: str) -> None:
        logger.error("%s of execution %s was requeued, but %s", letter.type, letter.execution_id, why)
        message = f"{why}; before that: {letter.message}"
        await self._undelivered.add(
            letter.execution_id, letter.cursor, letter.type, letter.handler, message, letter.attempts
        )
