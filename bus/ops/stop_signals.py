"""SIGTERM, Ctrl-C and a closed terminal as orders to stop, obeyed by the running event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def obeying(
    stop: Callable[[signal.Signals], object], orders: Sequence[signal.Signals] = STOP_SIGNALS
) -> Iterator[None]:
    """Have the loop call ``stop`` with each of these signals; afterwards they do what they did before.

    What was started with nohup outlives its terminal: SIGHUP stays ignored. SIGINT does not, although a shell without
    job control has its background jobs ignore it: as with other servers, Ctrl-C ends what a script has started.
    """
    loop = asyncio.get_running_loop()
    before = {order: signal.getsignal(order) for order in orders}
    if before.get(signal.SIGHUP) == signal.SIG_IGN:
        del before[signal.SIGHUP]
    for order in before:
        loop.add_signal_handler(order, stop, order)
    try:
        yield
    finally:
        for order, handler in before.items():
            loop.remove_signal_handler(order)
            signal.signal(order, handler or signal.SIG_DFL)
