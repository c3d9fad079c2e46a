"""An output: as it is kept, as the next step sees it, and as the log shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgpack

from tailrace.bus.errors import InvalidEventError, InvalidInputError
from tailrace.bus.model.event import encode_json
from tailrace.bus.ownership.checkpoints import pack
from tailrace.workers.errors import OutputInvalidError

# Larger outputs are kept, but not shown in the log: every viewer would get them.
MAX_SHOWN_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class StepOutput:
    """``output`` is the same whether it comes from memory or, later, from the checkpoint."""

    output: Any
    packed: bytes

    @classmethod
    def of(cls, step: str, output: Any) -> StepOutput:
        """Raises OutputInvalidError."""
        try:
            packed = pack(output)
            return cls(msgpack.unpackb(packed, strict_map_key=False), packed)
        except InvalidInputError as error:
            _, _, place = error.field.partition(".")
            raise OutputInvalidError(step, f"{place}: {error.detail}" if place else error.detail) from None
        except (ValueError, RecursionError) as error:
            # What cannot be read back, such as lists nested a thousand deep.
            raise OutputInvalidError(step, f"cannot be stored ({error}); nest it less deeply") from None


def shown(name: str, output: Any, size_bytes: int) -> dict[str, Any]:
    """What the log tells of an output: itself, or where it is kept if it is too large for that."""
    if output is None:
        return {}
    try:
        encode_json(output, limit_bytes=MAX_SHOWN_BYTES)
    except InvalidEventError:
        return {"output_of": name, "output_bytes": size_bytes}
    return {"output": output}
