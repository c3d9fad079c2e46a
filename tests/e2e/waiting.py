"""Wait for what other processes do, of which nobody tells us."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.patience import patient

LOOK_AGAIN_SECONDS = 0.02


async def eventually(condition: Callable[[], Awaitable[bool]], *, seconds: float = 20.0) -> None:
    """Raises AssertionError, with the condition's docstring, when it does not come true in time."""
    deadline = asyncio.get_running_loop().time() + patient(seconds)
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {condition.__doc__ or condition}")
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
