"""Print an execution's events until its ending, from gateways or from Redis itself."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from tailrace.bus import ExecutionUnknownError, Gap, open_bus
from tailrace.bus.model.cursor import parse
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.filter import Filter, check_pattern
from tailrace.cli.client.frame import ControlFrame, Received
from tailrace.cli.client.watch import Connected, Disconnected, GatewayWatch, client_for, exit_code_of
from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.text.lines import event_line, gap_line, json_line
from tailrace.cli.text.safe import one_line


async def show(
    execution_id: str,
    gateways: Sequence[str],
    redis_url: str | None,
    *,
    after: str = "",
    types: str = "",
    as_json: bool = False,
) -> ExitCode:
    """Return what the ending means. Raises BusError, CommandError."""
    check_execution_id(execution_id, field="ID")
    parse(after, field="--after")
    patterns = tuple(check_pattern(part.strip()) for part in types.split(",")) if types.strip() else ()
    if redis_url is not None:
        events = _from_redis(redis_url, execution_id, after, Filter(patterns))
    else:
        events = _from_gateways(gateways, execution_id, after, ",".join(patterns))
    ending: str | None = None
    async with aclosing(events) as stream:
        async for envelope in stream:
            if envelope["type"] == _ENDING:
                ending = envelope["status"]
            else:
                _print(envelope, as_json=as_json)
    if ending is None:
        _note("the stream stopped; how the execution ended is not known")
    return exit_code_of(ending)


# How both sources say how it ended; not an event, so that a filter cannot hide it.
_ENDING = "stream.end"


async def _from_gateways(
    gateways: Sequence[str], execution_id: str, after: str, types: str
) -> AsyncGenerator[dict[str, Any], None]:
    async with client_for(gateways) as client:
        watch = GatewayWatch(client, gateways, execution_id, after=after, types=types)
        async with aclosing(watch.items()) as items:
            async for item in items:
                match item:
                    case Received(duplicate=False):
                        yield {"id": item.id, **item.envelope}
                    case ControlFrame(type="stream.gap"):
                        yield {**item.payload, "type": "stream.gap"}
                    case Connected(resumed=True) if watch.tally.resumes > bool(after):
                        _note(f"resumed on {item.gateway}")
                    case Disconnected():
                        _note(f"{item.gateway}: {item.reason}; trying again in {item.delay_seconds:.1f} s")
        yield {"type": _ENDING, "status": watch.ending}


async def _from_redis(
    redis_url: str, execution_id: str, after: str, wanted: Filter
) -> AsyncGenerator[dict[str, Any], None]:
    async with await open_bus(redis_url) as bus:
        if not await bus.log.exists(execution_id):
            raise ExecutionUnknownError(execution_id)
        async with aclosing(bus.follow(execution_id, after)) as items:
            async for item in items:
                if isinstance(item, Gap):
                    yield {"type": "stream.gap", **item.members()}
                elif wanted.wants(item):
                    yield item.shown(execution_id)
        state = await bus.state(execution_id)
        yield {"type": _ENDING, "status": state.status if state is not None and state.ended else None}


def _print(envelope: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json_line(envelope), flush=True)
    elif envelope["type"] == "stream.gap":
        print(one_line(gap_line(envelope)), flush=True)
    else:
        step, ts = envelope.get("step"), envelope.get("ts")
        print(event_line(envelope["type"], step, str(ts), envelope.get("data")), flush=True)


def _note(sentence: str) -> None:
    print(f"tailrace: {one_line(sentence)}", file=sys.stderr, flush=True)
