"""Access for a route of the application's own: who may watch there, the application has decided."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Final

from starlette.requests import HTTPConnection

from tailrace.bus.errors import ExecutionUnknownError
from tailrace.bus.model.state import State
from tailrace.gateway.access.access import Access, Registration, client_of
from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.scopes import Scope
from tailrace.gateway.auth.tenant import ANY_TENANT
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.presence.live_connections import EXPIRED, ConnectionEnding, Kind, Watching

logger = logging.getLogger(__name__)

Allow = Callable[[State], bool]
# When a stream is over for reasons of the application: a time, or what is asked every few seconds.
Until = datetime | float | Callable[[], bool | Awaitable[bool]]

ASK_SECONDS: Final = 2.0


class OwnRouteAccess(Access):
    """``allow`` sees an execution's state before it is shown, as of one that does not exist where it says no.

    ``subject`` is shown to who asks who watches. ``until`` ends the stream as an expired token does: a ``datetime``,
    Unix seconds, or a callable that says True when it is over.
    """

    __slots__ = ("_allow", "_cancels", "_over")

    def __init__(
        self,
        gateway: GatewayContext,
        connection: HTTPConnection,
        *,
        allow: Allow | None,
        until: Until | None,
        subject: str = "application",
    ) -> None:
        expires_at = until.timestamp() if isinstance(until, datetime) else None if callable(until) else until
        principal = Principal(subject, ANY_TENANT, frozenset({"read"}), credential="none", expires_at=expires_at)
        super().__init__(gateway, principal, client_of(connection, gateway, None))
        self._allow = allow
        self._over = until if callable(until) else None
        self._cancels: tuple[str, float] | None = None

    async def cancel_unwatched(self, execution_id: str, grace_seconds: float) -> None:
        """Have it cancelled when it has no viewer any more for so long. Raises BusUnavailableError."""
        await self.gateway.unwatched.watch(execution_id, grace_seconds)
        self._cancels = execution_id, grace_seconds

    def allows(self, execution_id: str, action: Scope = "read") -> Callable[[State | None], bool]:
        del action
        allow = self._allow
        if allow is None:
            return lambda _: True
        return lambda state: allow(State(execution_id, "unknown") if state is None else state)

    async def run(self, execution_id: str, action: Scope = "read") -> None:
        """Raises ExecutionUnknownError, BusUnavailableError."""
        if self._allow is not None:
            state, exists = await self.gateway.bus.log.found(execution_id)
            if not exists or not self.allows(execution_id, action)(state):
                raise ExecutionUnknownError(execution_id)

    def register(self, kind: Kind, watching: Watching, end: Callable[[ConnectionEnding], None]) -> Registration:
        registration = super().register(kind, watching, end)
        if self._over is not None:
            asking = asyncio.create_task(_ask(self._over, end), name="gateway:until")
            registration.on_leave += (asking.cancel,)
        if self._cancels is not None:
            self.gateway.unwatched.enter(*self._cancels)
            registration.on_leave += (partial(self.gateway.unwatched.leave, *self._cancels),)
        return registration


async def _ask(over: Callable[[], bool | Awaitable[bool]], end: Callable[[ConnectionEnding], None]) -> None:
    while True:
        await asyncio.sleep(ASK_SECONDS)
        try:
            answer = over()
            is_over = await answer if inspect.isawaitable(answer) else answer
        except Exception:
            # Who cannot say that it may go on must not.
            logger.exception("'until' failed; the stream ends")
            is_over = True
        if is_over:
            end(EXPIRED)
            return
