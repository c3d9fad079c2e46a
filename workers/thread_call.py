"""A plain function in a thread of its own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


async def in_thread(
    name: str, call: Callable[[], Any], *, on_left: Callable[[asyncio.Future[Any]], None] | None = None
) -> Any:
    """Call it in a new thread and return what it gives. Raises what it raises; StopIteration as RuntimeError.

    A cancellation leaves the thread behind; ``on_left`` is then given what ends when it does. So it is a daemon, and
    none of a pool: threads that hang would use the pool up, and keep the worker from exiting.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def tell(result: Any, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(result)
        else:
            ended.set_exception(error)

    def run() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = context.run(call)
        except StopIteration as raised:
            # No future can carry it: those who wait for the thread would wait for ever.
            error = RuntimeError(f"{name} raised StopIteration")
            error.__cause__ = raised
        except BaseException as raised:  # noqa: BLE001 - the one who waits decides
            error = raised
        # The loop may be gone when a thread that was left behind returns.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        # What it raises can no longer be told to the caller.
        ended.add_done_callback(lambda each: each.cancelled() or each.exception())
        if on_left is not None and not ended.done():
            on_left(ended)
        raise
