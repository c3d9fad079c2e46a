"""Learning that the server around us is told to stop, while it still waits for its connections.

Servers end an application's lifespan only when all their connections are gone, and streams last: so viewers have to be
sent away when the signal comes.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def hearing_stops(told: Callable[[], object]) -> Iterator[None]:
    """Have ``told`` called in the running loop before the handlers that there are, which are called all the same.

    Handlers of the loop itself (``add_signal_handler``) are woken by the interpreter beside these. Where there can be
    none, as in a thread that is not the main one, nothing is heard.
    """
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}
    ours: dict[signal.Signals, Any] = {}

    def chained(order: signal.Signals, handler: Any) -> Callable[[int, FrameType | None], None]:
        def hear(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(told)
            if callable(handler):
                handler(number, frame)
            elif handler == signal.SIG_DFL:
                # As if we were not there.
                signal.signal(order, signal.SIG_DFL)
                signal.raise_signal(order)

        return hear

    try:
        for order in STOP_SIGNALS:
            handler = signal.getsignal(order)
            if handler is None or handler == signal.SIG_IGN:
                continue
            hear = chained(order, handler)
            signal.signal(order, hear)
            before[order], ours[order] = handler, hear
    except ValueError:
        # Not the main thread, or not the main interpreter.
        pass
    try:
        yield
    finally:
        for order, handler in before.items():
            # Whoever came after us has ours, and passes it on.
            if signal.getsignal(order) is ours[order]:
                signal.signal(order, handler)
