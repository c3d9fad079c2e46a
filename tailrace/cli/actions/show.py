"""All that is known of one execution: from a gateway, or from Redis itself."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from tailrace.bus import Bus, open_bus
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.queries.page import before_newest, collect
from tailrace.bus.queries.requests import RequestList, requests_of
from tailrace.bus.queries.state import state_of
from tailrace.cli.client.asking import ask
from tailrace.cli.client.watch import client_for
from tailrace.cli.text.ages import age
from tailrace.cli.text.lines import event_line, gap_line, json_line
from tailrace.cli.text.safe import one_line, shortened
from tailrace.gateway.http.schemas import EventPage, ExecutionState

_LABEL_CHARS: Final = 12
_PAGE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Overview:
    """As the gateway shows it: the state, the newest requests, and a page with the newest events."""

    state: dict[str, Any]
    requests: list[dict[str, Any]]
    page: dict[str, Any]


async def show_overview(
    execution_id: str, gateways: Sequence[str], redis_url: str | None, *, events: int, as_json: bool
) -> None:
    """Raises BusError, GatewayRequestError."""
    check_execution_id(execution_id, field="ID")
    if redis_url is not None:
        async with await open_bus(redis_url) as bus:
            overview = await _from_redis(bus, execution_id, events)
    else:
        overview = await _from_gateways(gateways, execution_id, events)
    if as_json:
        print(json_line(asdict(overview)))
        return
    for line in lines_of(overview, time.time()):
        print(line)
    sys.stdout.flush()


def lines_of(overview: Overview, unix_seconds: float) -> Iterator[str]:
    """For people. Pure."""
    state = overview.state
    yield _labelled("execution", state["execution_id"])
    yield _labelled("status", _status(state))
    for name in ("pipeline", "tenant", "owner"):
        if state[name] is not None:
            yield _labelled(name, state[name])
    for name in ("created", "started", "ended"):
        if state[name] is not None:
            yield _labelled(name, f"{state[name]}, {age(state[name], unix_seconds)} ago")
    span = f", in the log {state['first']} to {state['last']}" if state["first"] else ", none in the log any more"
    yield _labelled("events", f"{state['entries']}{span}")
    if state["checkpoints"]:
        yield _labelled("checkpoints", ", ".join(state["checkpoints"]))
    if overview.requests:
        yield "requests"
        for request in overview.requests:
            yield f"  {_request_line(request)}"
    if overview.page["items"]:
        yield "last events"
        if "gap" in overview.page:
            yield f"  {one_line(gap_line(overview.page['gap']))}"
        for event in overview.page["items"]:
            yield f"  {event_line(event['type'], event.get('step'), str(event['ts']), event.get('data'))}"


def _status(state: Mapping[str, Any]) -> str:
    attempt = f", attempt {state['attempt']}" if state["attempt"] > 1 else ""
    terminal = state["terminal"]
    data = terminal["data"] if terminal is not None else None
    why = ""
    if isinstance(data, Mapping) and state["status"] != "completed":
        why = ": " + "; ".join(str(data[name]) for name in ("reason", "message") if data.get(name))
    return f"{state['status']}{attempt}{shortened(why, 400) if why != ': ' else ''}"


def _request_line(request: Mapping[str, Any]) -> str:
    kind = str(request["type"]).removeprefix("execution.").removesuffix("_requested")
    details = [
        request.get("name"),
        None if request.get("data") is None else json.dumps(request["data"], ensure_ascii=False),
        None if request.get("reason") is None else repr(request["reason"]),
        None if request.get("by") is None else f"by {request['by']}",
    ]
    said = " ".join(str(detail) for detail in details if detail is not None)
    mark = "answered" if request["answered"] else "NOT ANSWERED YET"
    return f"{request['ts'][11:23]} {kind:<8} {shortened(one_line(said), 200)} ({mark})".replace("  (", " (")


def _labelled(label: str, value: object) -> str:
    return f"{label:<{_LABEL_CHARS}}{one_line(str(value))}"


async def _from_gateways(gateways: Sequence[str], execution_id: str, events: int) -> Overview:
    path = f"/v1/executions/{execution_id}"
    async with client_for(gateways) as client:
        state = await ask(client, gateways, path, ExecutionState)
        requests = await ask(client, gateways, f"{path}/requests", RequestList)
        page = _NO_PAGE
        if events:
            page = await ask(client, gateways, f"{path}/events", EventPage, params={"last": events})
    return Overview(state, requests["items"], page)


async def _from_redis(bus: Bus, execution_id: str, events: int) -> Overview:
    state = await state_of(bus.log, execution_id)
    requests = await requests_of(bus.log, execution_id)
    page = _NO_PAGE
    if events:
        after = await before_newest(bus.log, execution_id, events)
        document = await collect(bus.log, execution_id, after, events, _PAGE_BYTES)
        page = orjson.loads(document.render())
    return Overview(state.model_dump(mode="json"), requests.model_dump(mode="json", exclude_none=True)["items"], page)


_NO_PAGE: Final[dict[str, Any]] = {"items": []}
