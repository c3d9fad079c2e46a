"""Which Tail: tracking where it is allowed, blocking where it is not, and never silently."""

from __future__ import annotations

import logging
from typing import Literal

from bus.counters import Counters
from bus.errors import LinkLostError, ReplyError
from bus.line import Commands, Line
from bus.link import Dial
from bus.tail.blocking import BlockingTail
from bus.tail.tracking import TrackingTail
from bus.tail.watch import Tail

logger = logging.getLogger(__name__)


async def open_tail(
    dial: Dial | None, shared: Commands, counters: Counters, *, mode: Literal["auto", "tracking", "blocking"]
) -> Tail:
    """Start a Tail. Raises BusUnavailableError; ReplyError when tracking is demanded and refused."""
    if dial is None:
        # Not a real server: whoever speaks for it shares one connection.
        async def share() -> Commands:
            return _Shared(shared)

        return BlockingTail(share, shared, counters=counters)
    if mode != "blocking":
        tail = TrackingTail(dial, counters=counters)
        try:
            await tail.start()
        except (ReplyError, LinkLostError) as refusal:
            await tail.aclose()
            if mode == "tracking":
                raise
            counters.add("tail_fallbacks")
            logger.warning("tail: CLIENT TRACKING refused (%s); falling back to blocking XREAD", refusal)
        else:
            return tail

    async def connect() -> Commands:
        line = Line(dial, counters=counters, name="tail")
        await line.connect()
        return line

    return BlockingTail(connect, shared, counters=counters)


class _Shared:
    """Commands that somebody else closes."""

    def __init__(self, commands: Commands) -> None:
        self.command = commands.command

    async def aclose(self) -> None:
        pass
