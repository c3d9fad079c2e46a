"""Ask something of an execution, and say what came of it: over a gateway, or over Redis itself."""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson
from pydantic import BaseModel

from tailrace.bus import Bus, ControlTimeoutError, open_bus
from tailrace.bus.control import Outcome
from tailrace.bus.model.control_request import answers, check_text
from tailrace.bus.model.event import check_execution_id
from tailrace.cli.client.asking import ask
from tailrace.cli.client.token import token
from tailrace.cli.client.watch import client_for
from tailrace.cli.errors import CliError
from tailrace.cli.text.safe import one_line
from tailrace.gateway.http.control_schemas import Controlled
from tailrace.gateway.http.schemas import EventPage, ExecutionState

# What one long-poll waits: less than proxies leave a request that says nothing.
POLL_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class ControlCommand:
    """One request: the path of its route and its body, and the same as a call of the bus.

    ``once`` says that asking twice is not the same as asking once.
    """

    path: str
    call: Callable[[Bus, float], Awaitable[Outcome]]
    body: dict[str, Any] = field(default_factory=dict)
    once: bool = False


@dataclass(frozen=True, slots=True)
class ControlAnswer:
    """``request`` is the id of the request in the log, ``outcome`` the event that answers it, once one does."""

    execution_id: str
    request: str
    status: str
    outcome: dict[str, Any] | None


def cancelling(execution_id: str, *, reason: str | None, grace_seconds: float) -> ControlCommand:
    """Raises InvalidInputError."""
    if reason is not None:
        check_text(reason, field="reason")
    said = {} if reason is None else {"reason": reason}

    async def call(bus: Bus, wait_seconds: float) -> Outcome:
        return await bus.control.cancel(
            execution_id, reason=reason, by=requester(), grace_seconds=grace_seconds, wait_seconds=wait_seconds
        )

    return ControlCommand("cancel", call, {**said, "grace_seconds": grace_seconds})


def pausing(execution_id: str) -> ControlCommand:
    async def call(bus: Bus, wait_seconds: float) -> Outcome:
        return await bus.control.pause(execution_id, by=requester(), wait_seconds=wait_seconds)

    return ControlCommand("pause", call)


def resuming(execution_id: str) -> ControlCommand:
    async def call(bus: Bus, wait_seconds: float) -> Outcome:
        return await bus.control.resume(execution_id, by=requester(), wait_seconds=wait_seconds)

    return ControlCommand("resume", call)


def signalling(execution_id: str, name: str, text: str | None) -> ControlCommand:
    """``text`` is JSON, or None for a signal without data. Raises InvalidInputError, CliError."""
    check_text(name, field="name")
    data = None if text is None else _json(text)
    given = {} if data is None else {"data": data}

    async def call(bus: Bus, wait_seconds: float) -> Outcome:
        return await bus.control.signal(execution_id, name, data, by=requester(), wait_seconds=wait_seconds)

    return ControlCommand("signals", call, {"name": name, **given}, once=True)


async def send_control(
    execution_id: str,
    control: ControlCommand,
    gateways: Sequence[str],
    redis_url: str | None,
    *,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Raises BusError, GatewayRequestError; ControlTimeoutError when it is not answered in time."""
    check_execution_id(execution_id, field="ID")
    if redis_url is not None:
        async with await open_bus(redis_url) as bus:
            answer = _answer_of(await control.call(bus, wait_seconds))
    else:
        answer = await _over_gateways(execution_id, control, gateways, wait_seconds)
    if as_json:
        print(json.dumps(asdict(answer), ensure_ascii=False, separators=(",", ":")), flush=True)
    else:
        print(one_line(sentence_of(answer)), flush=True)


def sentence_of(answer: ControlAnswer) -> str:
    """Pure."""
    if answer.outcome is not None:
        return f"{answer.execution_id}: {answer.status}"
    return (
        f"{answer.execution_id}: {answer.status}; asked as {answer.request}, not answered yet "
        f"('tailrace show {answer.execution_id}' tells)"
    )


def requester() -> str:
    """Who asks, for all to see who read the log."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "somebody"
    name = f"{user}@{socket.gethostname()}"[:128]
    return name if name.isprintable() else "command line"


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CliError(
            f"JSON: {text[:64]!r} is not JSON ({error}); text has quotes of its own, as in '\"yes\"'"
        ) from None


def _answer_of(outcome: Outcome) -> ControlAnswer:
    event = None if outcome.event is None else outcome.event.shown(outcome.execution_id)
    return ControlAnswer(outcome.execution_id, outcome.request, outcome.status, event)


async def _over_gateways(
    execution_id: str, control: ControlCommand, gateways: Sequence[str], wait_seconds: float
) -> ControlAnswer:
    run = f"/v1/executions/{execution_id}"
    async with client_for(gateways) as client:

        async def get(path: str, shape: type[BaseModel], **params: Any) -> dict[str, Any]:
            return await ask(client, gateways, path, shape, params=params, wait_seconds=params.get("wait", 0.0))

        # A credential says by itself who asks.
        who = {} if token() else {"by": requester()}
        path, body = f"{run}/{control.path}", {**control.body, **who}
        said = await ask(client, gateways, path, Controlled, method="POST", body=body, once=control.once)
        answer = ControlAnswer(execution_id, said["request"], said["status"], _without_nulls(said["outcome"]))
        if answer.outcome is not None or not wait_seconds:
            return answer
        # Not by the gateway that was asked: it may go away meanwhile, and any other can tell.
        event = await _await_answer(get, run, answer, wait_seconds)
        return ControlAnswer(execution_id, answer.request, (await get(run, ExecutionState))["status"], event)


def _without_nulls(event: dict[str, Any] | None) -> dict[str, Any] | None:
    """As pages and streams show it."""
    if event is None:
        return None
    return {name: value for name, value in event.items() if value is not None or name == "data"}


async def _await_answer(
    get: Callable[..., Awaitable[dict[str, Any]]], run: str, answer: ControlAnswer, wait_seconds: float
) -> dict[str, Any] | None:
    """What answers the request; None when the execution ended and its log is gone.

    Raises ControlTimeoutError, GatewayRequestError.
    """
    loop = asyncio.get_running_loop()
    until, after = loop.time() + wait_seconds, answer.request
    while (left := until - loop.time()) > 0:
        page = await get(f"{run}/events", EventPage, after=after, limit=500, wait=round(min(left, POLL_SECONDS), 3))
        for event in page["items"]:
            if answers(answer.request, event["type"], event["data"]):
                found: dict[str, Any] = event
                return found
        if page["ended"]:
            return None
        after = page["next"]
    raise ControlTimeoutError(answer.execution_id, answer.request, wait_seconds)
