"""Where the newest entries of a log begin."""

from __future__ import annotations

from tailrace.bus.model.cursor import START, Cursor, from_id
from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.commands import Commands


async def before_newest(commands: Commands, keys: Keys, execution_id: str, count: int) -> Cursor:
    """The cursor after which there are the newest ``count`` entries; the start for a log that has no more.

    Raises BusUnavailableError, ReplyError when the key is no log.
    """
    newest = await commands.command("XREVRANGE", keys.log(execution_id), "+", "-", "COUNT", count + 1)
    return from_id(newest[-1][0]) if len(newest) > count else START
