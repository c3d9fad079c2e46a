"""What is asked of executions through this gateway, over HTTP or a WebSocket."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from tailrace.bus import Bus, InvalidInputError
from tailrace.bus.control import Outcome
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import parse
from tailrace.bus.model.entry import Entry
from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.streams.long_poll import await_news
from tailrace.gateway.views.control_schemas import Ask, CancelBody, PauseBody, ResumeBody, SignalBody

_MAX_BY_CHARS = 128


async def ask(bus: Bus, execution_id: str, asked: Ask, principal: Principal) -> Outcome:
    """Raises what bus.control does."""
    control, by = bus.control, _by(asked, principal)
    match asked:
        case CancelBody():
            return await control.cancel(execution_id, reason=asked.reason, grace_seconds=asked.grace_seconds, by=by)
        case PauseBody():
            return await control.pause(execution_id, by=by)
        case ResumeBody():
            return await control.resume(execution_id, by=by)
        case SignalBody():
            return await control.signal(execution_id, asked.name, asked.data, by=by)
    raise TypeError(f"{type(asked).__name__} is nothing that can be asked")


async def await_outcome(request: Request, gateway: GatewayContext, asked: Outcome, seconds: float) -> Outcome:
    """The outcome, or what was asked when there is none within so long, or when this gateway drains.

    Raises BusUnavailableError; ClientDisconnect when nobody waits for it any more.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    bus, execution_id = gateway.bus, asked.execution_id
    position = Numbering.after(parse(asked.request))
    while asked.event is None:
        page = await bus.log.read(execution_id, position)
        position = page.position
        for item in page.items:
            if isinstance(item, Entry) and (told := await bus.control.told(asked, item)) is not None:
                return told
        left = until - loop.time()
        if page.ended or left <= 0:
            break
        if not page.more and not await await_news(request, gateway, execution_id, position.cursor, left):
            break
    return asked


def _by(asked: Ask, principal: Principal) -> str | None:
    """Raises InvalidInputError."""
    if principal.credential == "none":
        return asked.by
    if asked.by is not None:
        raise InvalidInputError("by", "the credential says who asks; leave it out")
    return "".join(filter(str.isprintable, principal.subject))[:_MAX_BY_CHARS] or None
