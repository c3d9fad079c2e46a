"""One connected client: its subscriptions, of which some wait for plans that have not begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from messages import said
from users import seen_by

from tailrace import Bus, ExecutionUnknownError, InvalidInputError, Session, frame

# How long a plan that has not begun is waited for, and how many of them.
WAIT_SECONDS = 300.0
MAX_WAITING = 200


class Client:
    def __init__(self, client_id: str, session: Session, bus: Bus, user: str | None) -> None:
        self._client_id = client_id
        self._session = session
        self._bus = bus
        self._sees = seen_by(user)
        self._waiting: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def connected(self, ping_seconds: float) -> AsyncGenerator[None, None]:
        """A ping welcomes it, and then tells it every so often that this instance is there."""
        await self._ping()
        pinging = asyncio.create_task(self._ping_on(ping_seconds))
        try:
            yield
        finally:
            for task in (pinging, *self._waiting.values()):
                task.cancel()

    async def hear(self, message: Any) -> None:
        match message:
            case {"action": "subscribe", "plan_id": str(plan)}:
                self.begin(plan, message.get("after"))
            case {"action": "unsubscribe", "plan_id": str(plan)}:
                if plan in self._waiting:
                    self._waiting[plan].cancel()
                await self._session.unsubscribe(plan)
            case {"action": "ping"}:
                await self._session.send(frame(said("pong", "system", {"timestamp": message.get("timestamp")})))
            case {"action": "subscribe" | "unsubscribe"}:
                await self._session.tell_error(InvalidInputError("plan_id", "is missing"))
            case _:
                shown = str(message.get("action") if isinstance(message, dict) else message)[:64]
                error = InvalidInputError("action", f"{shown!r} is not subscribe, unsubscribe or ping")
                await self._session.tell_error(error)

    def begin(self, plan: str, after: Any) -> None:
        """Subscribe, while the client is still heard."""
        if plan in self._waiting:
            self._waiting[plan].cancel()
        task = self._waiting[plan] = asyncio.create_task(self._subscribe(plan, after))
        task.add_done_callback(lambda done: self._waiting.pop(plan) if self._waiting.get(plan) is done else None)

    async def _subscribe(self, plan: str, after: Any) -> None:
        try:
            await self._check(plan)
            place = after if isinstance(after, str) else None
            await self._session.subscribe(plan, after=place, wait_for_start=WAIT_SECONDS)
        except Exception as error:  # noqa: BLE001 - tell_error raises what is none of Tailrace's
            await self._session.tell_error(error, plan[:128])

    async def _check(self, plan: str) -> None:
        if len(self._waiting) > MAX_WAITING:
            raise InvalidInputError("plan_id", f"{MAX_WAITING} plans that have not begun are waited for already")
        state = await self._bus.state(plan)
        if state is not None and not self._sees(state):
            # Told at once: what is not there yet would be waited for.
            raise ExecutionUnknownError(plan)

    async def _ping(self) -> None:
        await self._session.send(frame(said("ping", "system", {"client_id": self._client_id})))

    async def _ping_on(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._ping()
