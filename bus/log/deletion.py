"""Forgetting an execution that has ended."""

from __future__ import annotations

from typing import Final

from tailrace.bus.errors import ExecutionNotEndedError, ExecutionUnknownError, ReplyError
from tailrace.bus.log.index import ExecutionIndex
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.labels import read_labels
from tailrace.bus.model.retention import Retention
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script

_DELETE: Final = Script.load("delete")


async def delete(
    commands: Commands, keys: Keys, index: ExecutionIndex, retention: Retention, execution_id: str
) -> None:
    """Delete all of an execution and take it off the lists; its id can be used again.

    A mark of a few bytes stays for as long as the state of one that has ended, to keep out owners of before.

    What the activity and dead letters say of it stays there. Raises ExecutionUnknownError; ExecutionNotEndedError,
    and then nothing was deleted; BusUnavailableError, after which it may be called again.
    """
    bookmarks = [keys.bookmark(execution_id, group) for group in await _groups(commands, keys)]
    try:
        tenant, labels = await _DELETE.run(
            commands, (*keys.of_execution(execution_id), *bookmarks), retention.ended_state_seconds
        )
    except ReplyError as error:
        word, _, detail = str(error).partition(" ")
        match word:
            case "UNKNOWN":
                # Perhaps it was deleted a moment ago, and only its place in the lists is left.
                await index.remove(execution_id, None)
                raise ExecutionUnknownError(execution_id) from None
            case "LIVE":
                raise ExecutionNotEndedError(execution_id, detail) from None
        raise
    await index.remove(execution_id, tenant.decode(errors="replace") or None, read_labels(labels))


async def _groups(commands: Commands, keys: Keys) -> list[str]:
    """The groups of handlers, each of which may have a bookmark in it."""
    try:
        groups = await commands.command("XINFO", "GROUPS", keys.activity())
    except ReplyError as error:
        if "no such key" not in str(error):
            raise
        return []
    return [group[b"name"].decode(errors="replace") for group in groups]
