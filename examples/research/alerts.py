"""What is done about events: each is handled once over all instances, watched or not."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from tailrace import Bus, Delivery, ExecutionClosedError, Handlers

ENOUGH = 0.7


def handlers_of(bus: Bus, checked: Counter[str]) -> Handlers:
    """Several for one type, async and sync; what one raises concerns no other."""
    handlers = Handlers()

    @handlers.on("quality.check")
    async def alert(event: Delivery) -> None:
        """Tells all who watch the plan, wherever they are connected."""
        if event.data["score"] < ENOUGH:
            publisher = bus.publisher(event.execution_id)
            data = {"status": "degraded", "alert": f"Low quality: {event.data['score']:.2f}"}
            with suppress(ExecutionClosedError):
                await publisher.append("plan.alert", data, step=event.step)
            await publisher.abandon()

    @handlers.on("quality.check")
    def note(event: Delivery) -> None:
        checked["passed" if event.data["passed"] else "failed"] += 1

    @handlers.on("quality.check")
    def broken(event: Delivery) -> None:
        raise RuntimeError(f"this handler always fails, as with {event.execution_id}")

    return handlers
