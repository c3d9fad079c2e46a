"""What the steps of an execution gave, kept so that another worker can go on from there."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from tailrace.bus.errors import (
    ExecutionClosedError,
    FenceStaleError,
    InvalidCursorError,
    InvalidInputError,
    ReplyError,
)
from tailrace.bus.model.cursor import Cursor, parse
from tailrace.bus.model.fence import token_of
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.numbers import check_numbers
from tailrace.bus.model.retention import Retention
from tailrace.bus.redis.commands import Commands
from tailrace.bus.redis.script import Script

logger = logging.getLogger(__name__)

MAX_OUTPUT_BYTES: Final = 1024 * 1024
MAX_EXECUTION_BYTES: Final = 32 * 1024 * 1024

# Fields of the hash: an output's is its step's name, which has no control characters, so that these never meet it.
_STATE: Final = b"\x1fs:"
_ANSWER: Final = b"\x1fa:"
_OURS: Final = b"\x1f"
_GIVEN: Final = b"\x1fsignals"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was kept: ``outputs`` and ``states`` by step, ``answers`` by question."""

    outputs: dict[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The same stored again changes nothing.

    Storing raises ExecutionClosedError, FenceStaleError, BusUnavailableError; and InvalidInputError when all that is
    kept of an execution would be more than ``MAX_EXECUTION_BYTES``.
    """

    def __init__(self, commands: Commands, keys: Keys, retention: Retention) -> None:
        self._commands = commands
        self._keys = keys
        self._retention = retention
        self._script = Script.load("checkpoint")

    async def store(self, execution_id: str, step: str, packed: bytes, *, fence: int) -> None:
        """Keep a step's output, as ``pack`` made it; the step's own state is needed no longer."""
        await self._store(execution_id, step.encode(), packed, fence, forget=_STATE + step.encode())

    async def store_state(self, execution_id: str, step: str, packed: bytes, *, fence: int) -> None:
        """Keep how far a step is, in place of what it kept before."""
        await self._store(execution_id, _STATE + step.encode(), packed, fence)

    async def store_answer(self, execution_id: str, ask: str, packed: bytes, *, fence: int) -> None:
        """Keep the answer to a question."""
        await self._store(execution_id, _ANSWER + ask.encode(), packed, fence)

    async def store_given(self, execution_id: str, given: Mapping[str, str], *, fence: int) -> None:
        """Keep which signals the body was given: the last request of each name."""
        await self._store(execution_id, _GIVEN, msgpack.packb(given), fence)

    async def given(self, execution_id: str) -> dict[str, Cursor]:
        """What was kept by ``store_given``. Raises BusUnavailableError."""
        packed = await self._commands.command("HGET", self._keys.checkpoints(execution_id), _GIVEN)
        try:
            return {} if packed is None else {str(name): parse(at) for name, at in unpack(packed).items()}
        except (ValueError, AttributeError, InvalidCursorError) as error:
            logger.warning("execution %s: which signals were given cannot be read: %s", execution_id, error)
            return {}

    async def load(self, execution_id: str) -> dict[str, Any]:
        """Step to output, of all steps that were stored. Raises BusUnavailableError."""
        return (await self.restore(execution_id)).outputs

    async def restore(self, execution_id: str) -> Restored:
        """All that was kept; what cannot be read counts as not kept. Raises BusUnavailableError."""
        reply = await self._commands.command("HGETALL", self._keys.checkpoints(execution_id))
        restored = Restored()
        for name, packed in reply.items():
            try:
                _sorted_into(restored, name, packed)
            except (ValueError, RecursionError) as error:
                logger.warning("execution %s: checkpoint %r cannot be read: %s", execution_id, name, error)
        return restored

    async def _store(self, execution_id: str, name: bytes, packed: bytes, fence: int, forget: bytes = b"") -> None:
        keys = (self._keys.meta(execution_id), self._keys.checkpoints(execution_id))
        try:
            await self._script.run(
                self._commands,
                keys,
                token_of(fence),
                self._retention.live_seconds,
                name,
                packed,
                MAX_EXECUTION_BYTES,
                forget,
            )
        except ReplyError as error:
            word, _, detail = str(error).partition(" ")
            match word:
                case "CLOSED":
                    raise ExecutionClosedError(execution_id, detail) from None
                case "FENCED":
                    raise FenceStaleError(execution_id) from None
                case "FULL":
                    raise InvalidInputError(
                        "checkpoints",
                        f"of execution {execution_id} would have {detail} bytes, the limit is {MAX_EXECUTION_BYTES}; "
                        "store outputs elsewhere and give references",
                    ) from None
            raise


def pack(output: Any, *, field: str = "output", limit_bytes: int = MAX_OUTPUT_BYTES) -> bytes:
    """Raises InvalidInputError for what neither msgpack nor the log can hold, or not within the limit."""
    check_numbers(output, field=field)
    try:
        packed: bytes = msgpack.packb(output, default=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInputError(
            field, f"cannot be stored ({error}); give dicts, lists, strings, numbers or bytes"
        ) from None
    if len(packed) > limit_bytes:
        raise InvalidInputError(
            field, f"has {len(packed)} bytes, the limit is {limit_bytes}; store it elsewhere and give a reference"
        )
    return packed


def unpack(packed: bytes) -> Any:
    """What ``pack`` took, as plain data. Raises ValueError for what is no msgpack."""
    return msgpack.unpackb(packed, strict_map_key=False)


def _sorted_into(restored: Restored, name: bytes, packed: bytes) -> None:
    for prefix, kept in ((_STATE, restored.states), (_ANSWER, restored.answers)):
        if name.startswith(prefix):
            kept[name.removeprefix(prefix).decode()] = unpack(packed)
            return
    if not name.startswith(_OURS):
        restored.outputs[name.decode()] = unpack(packed)


def _plain(value: object) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no msgpack form")
