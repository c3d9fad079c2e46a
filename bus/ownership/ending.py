"""How an execution ends: which event says so, and how it gets into the log whatever stands in the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tailrace.bus.errors import (
    BusError,
    EventTooLargeError,
    ExecutionClosedError,
    InvalidEventError,
    PublishFailedError,
    TransitionRefusedError,
)
from tailrace.bus.log.publisher import Publisher
from tailrace.bus.model.control_request import ControlRequest, cancelled_by
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.event import CANCELLED, COMPLETED, FAILED, TIMED_OUT, encode_json

logger = logging.getLogger(__name__)

# How long an ending may take when the code around it was cancelled and wants to be gone.
ENDING_SECONDS: Final = 10.0
# A sentence is for people; what a library puts into an exception may be a megabyte.
MAX_MESSAGE_CHARS: Final = 4000
MAX_DETAILS_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Overrun:
    """It ran longer than it may; ``submitted`` when the time counts from its submission."""

    timeout_seconds: float
    submitted: bool = False

    @property
    def sentence(self) -> str:
        if self.submitted:
            return f"It was not done {self.timeout_seconds:g} s after its submission."
        return f"It ran longer than {self.timeout_seconds:g} s."


Stop = ControlRequest | Overrun
"""Why a body is stopped before it is done."""


@dataclass(frozen=True, slots=True)
class Ending:
    """``short`` is what must fit into any event; they may be as small as 256 bytes."""

    type: str
    data: dict[str, Any]
    short: dict[str, Any] | None = None


def stopped(stop: Stop, *, forced: bool = False) -> Ending:
    if isinstance(stop, ControlRequest):
        data = cancelled_by(stop, forced=forced)
        return Ending(CANCELLED, data, {**data, "reason": "cancelled", "by": None})
    data = {"reason": "timeout", "message": stop.sentence, "timeout_seconds": stop.timeout_seconds}
    return Ending(TIMED_OUT, {**data, "forced": True} if forced else data)


def ending_of(error: BaseException | None, stop: Stop | None, result: Any, *, cancelled: bool) -> Ending:
    """What the body's way out means. A body that was told to stop has stopped, whatever it raised meanwhile.

    ``cancelled``: its task is being cancelled. Otherwise a CancelledError is that of something that it awaited.
    """
    if stop is not None:
        return stopped(stop)
    if error is None:
        return Ending(COMPLETED, {"result": result})
    if isinstance(error, asyncio.CancelledError) and not cancelled:
        return Ending(FAILED, {**failure_of(error), "message": "A task that it awaited was cancelled."})
    if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)):
        return Ending(CANCELLED, {"reason": "cancelled", "message": "the program stopped it"})
    return Ending(FAILED, failure_of(error))


async def append_ending(publisher: Publisher, ending: Ending, new_publisher: Callable[[], Publisher]) -> Cursor | None:
    """Append it behind all that the publisher holds; when that one has failed, with another from ``new_publisher``.

    None, when the body has said its ending itself, and that is in the log.

    Raises InvalidEventError for a result that cannot be shown, and PublishFailedError or TransitionRefusedError when
    events were lost; the log then says so. Raises FenceStaleError, ExecutionClosedError.
    """
    try:
        if publisher.closes_log:
            await publisher.flush()
            return None
        return await _append_fitting(publisher, ending)
    except InvalidEventError as error:
        # A result that cannot be shown must not cost the execution its ending.
        await publisher.append(FAILED, {"reason": "invalid_result", "message": f"the result: {error}"})
        raise
    except (PublishFailedError, TransitionRefusedError) as failure:
        await _append_loss(ending, failure, new_publisher())
        raise


async def _append_fitting(publisher: Publisher, ending: Ending) -> Cursor:
    try:
        return await publisher.append(ending.type, ending.data)
    except EventTooLargeError as error:
        if ending.type == COMPLETED:
            raise
        size = f"its reason has {error.size_bytes} bytes"
        return await publisher.append(ending.type, ending.short or {"reason": "exception", "message": size})


async def _append_loss(
    ending: Ending, failure: PublishFailedError | TransitionRefusedError, publisher: Publisher
) -> None:
    """Events were lost: that must stand in the log, even if the execution went well."""
    reason = "publish_failed" if isinstance(failure, PublishFailedError) else "transition_refused"
    data: dict[str, Any] = {"reason": reason, "message": _text(str(failure))}
    if isinstance(failure, PublishFailedError):
        data["lost_events"] = failure.lost_events
    if ending.type == CANCELLED:
        data |= ending.data
    instead = Ending(CANCELLED if ending.type == CANCELLED else FAILED, data)
    try:
        await _append_fitting(publisher, instead)
    except ExecutionClosedError:
        logger.debug("execution %s: its ending had been appended after all", publisher.execution_id)
    except BusError as refusal:
        # A healer tells the viewers when the lease runs out.
        logger.error("execution %s: its failure could not be appended: %s", publisher.execution_id, refusal)  # noqa: TRY400 - no trace helps
    finally:
        await publisher.abandon()


def failure_of(error: BaseException) -> dict[str, Any]:
    """The reason in data: a word for programs, a sentence for people, never a traceback.

    An exception may carry its word as ``code`` (a str) and more data as ``details`` (a JSON object).
    """
    code = getattr(error, "code", None)
    return {
        **_details(error),
        "reason": _text(code) if isinstance(code, str) else "exception",
        "message": _text(str(error)) or type(error).__name__,
        "exception": type(error).__name__,
    }


def _details(error: BaseException) -> dict[str, Any]:
    details = getattr(error, "details", None)
    if not isinstance(details, dict):
        return {}
    try:
        encode_json(details, limit_bytes=MAX_DETAILS_BYTES)
    except InvalidEventError:
        # Some library's own idea of details: what cannot be shown must not cost the execution its ending.
        return {}
    return details


def _text(text: str) -> str:
    short = text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 3] + "..."
    # Half a surrogate pair (from a file name that is no UTF-8, say) has no JSON form.
    return short.encode("utf-8", "replace").decode()
