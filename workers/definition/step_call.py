"""One call of a step's function, in whichever process it runs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from tailrace.workers.definition.context import Context
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.parameters import Parameters
from tailrace.workers.definition.plain_context import PlainContext
from tailrace.workers.errors import StepExitedError
from tailrace.workers.thread_call import in_thread


def prepared(
    run: Callable[..., Any], parameters: Parameters, context: Context, options: Any, outputs: Outputs
) -> Callable[[], Any]:
    """The call with all its arguments. Raises StepInputInvalidError."""
    positional, named = parameters.arguments(context.step, context.input, options, outputs)
    if parameters.takes_context:
        positional = [PlainContext(context) if parameters.plain_context else context, *positional]
    return partial(run, *positional, **named)


async def called(
    step: str, run: Callable[..., Any], call: Callable[[], Any], on_left: Callable[[asyncio.Future[Any]], None]
) -> Any:
    """Call it; ``on_left`` is as for ``in_thread``.

    Raises StepExitedError for sys.exit(): it would end the whole worker, and with it everybody's executions.
    """
    try:
        returned = call() if is_async(run) else await in_thread(f"step {step!r}", call, on_left=on_left)
        # A lambda around an async function does not look like one.
        return await returned if inspect.isawaitable(returned) else returned
    except SystemExit as error:
        raise StepExitedError(step, error.code) from error


def is_async(run: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(getattr(run, "__call__", None))  # noqa: B004 - its kind is asked, not whether there is one
