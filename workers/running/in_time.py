"""Waiting for a step that may not stop when it is told to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from tailrace.workers.definition.deadline import StepDeadline

logger = logging.getLogger(__name__)

# How long a step whose time is up may take to stop before it is left behind.
DEAF_SECONDS: Final = 5.0


async def in_time(
    step: str,
    call: Coroutine[Any, Any, Any],
    deadlines: Sequence[StepDeadline],
    on_left: Callable[[asyncio.Future[Any]], None],
) -> Any:
    """Return what it gives, or raise what it raises; CancelledError when this is cancelled, as by a deadline.

    In a task of its own: who cancels that, as the step itself may, has not cancelled us. What a cancellation of ours
    does not stop is waited for; if it is a deadline's, not for long: then ``on_left`` is given it.
    """
    task = asyncio.create_task(call, name=f"step:{step}")
    ours: asyncio.CancelledError | None = None
    while True:
        overdue = ours is not None and any(deadline.expired for deadline in deadlines)
        try:
            await asyncio.wait([task], timeout=DEAF_SECONDS if overdue else None)
        except asyncio.CancelledError as error:
            ours = error
            task.cancel()
        else:
            break
    if ours is None:
        return task.result()
    if task.done():
        # Or its exception would be called never retrieved.
        task.cancelled() or task.exception()
    else:
        on_left(task)
        task.add_done_callback(_tell_end)
        logger.error("step %r did not stop when its time was up; it is still running in the background", step)
    raise ours


def _tell_end(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.info(
            "%s, which had not stopped in time, ended with %s: %s", task.get_name(), type(error).__name__, error
        )
