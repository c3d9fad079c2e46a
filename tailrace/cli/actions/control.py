"""Ask something of an execution, and say what came of it: over a gateway, or over Redis itself."""

from __future__ import annotations

import getpass
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from tailrace.bus import Bus, open_bus
from tailrace.bus.control import Outcome, await_outcome
from tailrace.bus.model.control_request import check_text
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.lifecycle import Status
from tailrace.bus.model.numbers import load_json
from tailrace.cli.client.asking import ask
from tailrace.cli.client.token import token
from tailrace.cli.client.watch import client_for
from tailrace.cli.errors import CliError
from tailrace.cli.text.lines import json_line
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
            outcome = await control.call(bus, wait_seconds)
    else:
        outcome = await _over_gateways(execution_id, control, gateways, wait_seconds)
    if as_json:
        event = None if outcome.event is None else outcome.event.shown(execution_id)
        answer = {
            "execution_id": execution_id,
            "request": outcome.request,
            "status": outcome.status,
            "outcome": event,
        }
        print(json_line(answer), flush=True)
    else:
        print(one_line(sentence_of(outcome)), flush=True)


def sentence_of(outcome: Outcome) -> str:
    """Pure."""
    if outcome.event is not None:
        return f"{outcome.execution_id}: {outcome.status}"
    return (
        f"{outcome.execution_id}: {outcome.status}; asked as {outcome.request}, not answered yet "
        f"('tailrace show {outcome.execution_id}' tells)"
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
        return load_json(text)
    except orjson.JSONDecodeError as error:
        raise CliError(f"JSON: {text[:64]!r} is not JSON ({error}); quote a string, as in '\"yes\"'") from None


async def _over_gateways(
    execution_id: str, control: ControlCommand, gateways: Sequence[str], wait_seconds: float
) -> Outcome:
    """Raises ControlTimeoutError, GatewayRequestError."""
    path = f"/v1/executions/{execution_id}"
    async with client_for(gateways) as client:

        async def status(_: str) -> Status:
            current: Status = (await ask(client, gateways, path, ExecutionState))["status"]
            return current

        async def following(after: str) -> AsyncGenerator[Entry | Gap, None]:
            # Not by the gateway that was asked: it may go away meanwhile, and any other can tell.
            params: dict[str, Any] = {"after": after, "limit": 500, "wait": POLL_SECONDS}
            ended = False
            while not ended:
                page = await ask(
                    client, gateways, f"{path}/events", EventPage, params=params, wait_seconds=POLL_SECONDS
                )
                for event in page["items"]:
                    yield Entry.from_shown(event)
                ended, params["after"] = page["ended"], page["next"]

        # A credential says by itself who asks.
        who = {} if token() else {"by": requester()}
        body = {**control.body, **who}
        said = await ask(
            client, gateways, f"{path}/{control.path}", Controlled, method="POST", body=body, once=control.once
        )
        event = said["outcome"]
        asked = Outcome(
            execution_id, said["request"], None if event is None else Entry.from_shown(event), said["status"]
        )
        return await await_outcome(asked, following(asked.request), status, wait_seconds) if wait_seconds else asked
