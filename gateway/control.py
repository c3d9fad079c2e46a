"""What is asked of executions through this gateway, over HTTP or a WebSocket."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from bus import Bus, InvalidInputError
from bus.continuity import Numbering
from bus.control import Outcome
from bus.cursor import parse
from bus.entry import Entry
from gateway.auth.principal import Principal
from gateway.bell import await_news
from gateway.context import Gateway
from gateway.control_schemas import Ask, Cancel, Pause, Resume, Signal

_MAX_BY_CHARS = 128


async def ask(bus: Bus, execution_id: str, asked: Ask, principal: Principal) -> Outcome:
    """Raises what bus.control does."""
    control, by = bus.control, _by(asked, principal)
    match asked:
        case Cancel():
            return await control.cancel(execution_id, reason=asked.reason, grace_seconds=asked.grace_seconds, by=by)
        case Pause():
            return await control.pause(execution_id, by=by)
        case Resume():
            return await control.resume(execution_id, by=by)
        case Signal():
            return await control.signal(execution_id, asked.name, asked.data, by=by)
    raise TypeError(f"{type(asked).__name__} is nothing that can be asked")


async def await_outcome(request: Request, gateway: Gateway, asked: Outcome, seconds: float) -> Outcome:
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
