"""Run a coroutine so that SIGTERM and a closed terminal end it as orderly as Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from tailrace.bus.ops.stop_signals import obeying
from tailrace.cli.errors import SignalledError

T = TypeVar("T")
_ORDERS: Final = (signal.SIGTERM, signal.SIGHUP)


def run_orderly(work: Coroutine[Any, Any, T]) -> T:
    """Raises KeyboardInterrupt after Ctrl-C, SignalledError after the others; the work was cancelled then."""
    return asyncio.run(_heed(work))


async def _heed(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    received: list[signal.Signals] = []

    def stop(order: signal.Signals) -> None:
        if not received and task is not None:
            task.cancel()
        received.append(order)

    with obeying(stop, _ORDERS):
        try:
            return await work
        except asyncio.CancelledError:
            if received:
                raise SignalledError(received[0]) from None
            raise
