"""What the steps of an execution gave, kept so that another worker can go on from there."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import msgpack

from bus.errors import ExecutionClosedError, FenceStaleError, InvalidInputError, ReplyError
from bus.keys import Keys
from bus.line import Commands
from bus.retention import Retention
from bus.script import Script

MAX_OUTPUT_BYTES: Final = 1024 * 1024


class Checkpoints:
    def __init__(self, commands: Commands, keys: Keys, retention: Retention) -> None:
        self._commands = commands
        self._keys = keys
        self._retention = retention
        self._script = Script.load("checkpoint")

    async def store(self, execution_id: str, step: str, packed: bytes, *, fence: int) -> None:
        """Keep a step's output, as ``pack`` made it. The same again changes nothing.

        Raises ExecutionClosedError, FenceStaleError, BusUnavailableError.
        """
        keys = (self._keys.meta(execution_id), self._keys.checkpoints(execution_id))
        try:
            await self._script.run(self._commands, keys, fence, self._retention.live_seconds, step, packed)
        except ReplyError as error:
            word, _, detail = str(error).partition(" ")
            match word:
                case "CLOSED":
                    raise ExecutionClosedError(execution_id, detail) from None
                case "FENCED":
                    raise FenceStaleError(execution_id, fence, int(detail)) from None
            raise

    async def load(self, execution_id: str) -> dict[str, Any]:
        """Step to output, of all steps that were stored. Raises BusUnavailableError."""
        reply = await self._commands.command("HGETALL", self._keys.checkpoints(execution_id))
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return {step.decode(): msgpack.unpackb(packed, strict_map_key=False) for step, packed in pairs}


def pack(output: Any, *, limit_bytes: int = MAX_OUTPUT_BYTES) -> bytes:
    """Raises InvalidInputError for what msgpack cannot hold, or not within the limit."""
    try:
        packed: bytes = msgpack.packb(output, default=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInputError(
            "output", f"cannot be stored ({error}); give dicts, lists, strings, numbers or bytes"
        ) from None
    if len(packed) > limit_bytes:
        raise InvalidInputError(
            "output", f"has {len(packed)} bytes, the limit is {limit_bytes}; store it elsewhere and give a reference"
        )
    return packed


def _plain(value: object) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no msgpack form")
