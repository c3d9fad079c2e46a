from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from tailrace.cli.client.frame import ControlFrame, Received
from tailrace.cli.client.watch import Connected, Disconnected, GatewayWatch, Item, exit_code_of
from tailrace.cli.errors import GatewayRequestError
from tailrace.cli.exit_codes import ExitCode

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0
TS = datetime.fromtimestamp(NOW - 0.25, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def event(number: int, event_type: str = "log", data: Any = None) -> bytes:
    body = orjson.dumps({"type": event_type, "execution_id": "x", "ts": TS, "data": data})
    return b"id: 100-%d\nevent: %b\ndata: %b\n\n" % (number, event_type.encode(), body)


def control(name: str, **payload: Any) -> bytes:
    return b"event: stream.%b\ndata: %b\n\n" % (name.encode(), orjson.dumps(payload))


OPEN = control("open", cursor="0-0", status="running", head="0-0")
CAUGHT_UP = control("caught_up")
COMPLETED = event(3, "execution.completed") + control("end", status="completed")


class Stream(httpx.AsyncByteStream):
    """Bytes in the given pieces; at its end a broken connection when one was asked for."""

    def __init__(self, pieces: Iterable[bytes], *, broken: bool) -> None:
        self._pieces = pieces
        self._broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._broken:
            raise httpx.ReadError("connection reset by peer")


def stream(*pieces: bytes, broken: bool = False) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream(pieces, broken=broken))


@dataclass
class Gateways:
    """Answers in turn; remembers who was asked and after which event."""

    answers: list[httpx.Response | Exception]
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.host, request.headers.get("last-event-id")))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def watch_of(handler: Callable[[httpx.Request], httpx.Response], **options: Any) -> GatewayWatch:
    client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    options = {"jitter": lambda: 0.0, "unix_seconds": lambda: NOW, **options}
    return GatewayWatch(client, ["http://a", "http://b"], "x", **options)


async def all_of(watch: GatewayWatch) -> list[Item]:
    return [item async for item in watch.items()]


def ids(items: Iterable[Item]) -> list[str]:
    return [item.id for item in items if isinstance(item, Received)]


async def test_a_stream_is_read_to_its_ending() -> None:
    watch = watch_of(Gateways([stream(b"retry: 10\n", OPEN, event(1), CAUGHT_UP, event(2), COMPLETED)]))

    items = await all_of(watch)

    assert ids(items) == ["100-1", "100-2", "100-3"]
    assert watch.ending == "completed"
    assert (watch.tally.events, watch.tally.resumes, watch.tally.duplicates) == (3, 0, 0)


async def test_a_broken_stream_resumes_after_the_last_event_on_the_next_gateway() -> None:
    gateways = Gateways([stream(b"retry: 10\n", OPEN, event(1), event(2), broken=True), stream(OPEN, COMPLETED)])
    watch = watch_of(gateways)

    items = await all_of(watch)

    assert ids(items) == ["100-1", "100-2", "100-3"]
    assert gateways.asked == [("a", None), ("b", "100-2")]
    assert watch.tally.resumes == 1
    assert Connected("http://b", resumed=True) in items


async def test_a_stream_that_merely_stops_is_no_ending() -> None:
    """Case 27: a clean end of the response is not completion."""
    gateways = Gateways([stream(b"retry: 10\n", OPEN, event(1)), stream(OPEN, event(2), COMPLETED)])
    watch = watch_of(gateways)

    assert ids(await all_of(watch)) == ["100-1", "100-2", "100-3"]
    assert len(gateways.asked) == 2


async def test_half_a_frame_at_the_end_of_a_connection_is_not_an_event() -> None:
    gateways = Gateways([stream(b"retry: 10\n", event(1), event(2)[:-1], broken=True), stream(event(2), COMPLETED)])
    watch = watch_of(gateways)

    assert ids(await all_of(watch)) == ["100-1", "100-2", "100-3"]
    assert gateways.asked[1] == ("b", "100-1")


async def test_who_has_the_terminal_event_needs_no_gateway_any_more() -> None:
    gateways = Gateways([stream(event(3, "execution.failed"), broken=True)])
    watch = watch_of(gateways)

    await all_of(watch)

    assert watch.ending == "failed"
    assert len(gateways.asked) == 1


async def test_what_comes_twice_is_marked_and_counted() -> None:
    watch = watch_of(Gateways([stream(event(1), event(2), event(2), event(1), COMPLETED)]))

    received = [item for item in await all_of(watch) if isinstance(item, Received)]

    assert [item.duplicate for item in received] == [False, False, True, True, False]
    assert watch.tally.duplicates == 2
    assert watch.cursor == "100-3"


async def test_after_a_gap_lower_ids_are_another_stretch_and_no_duplicates() -> None:
    gap = control("gap", requested="100-9", earliest="100-1", latest="100-3", reason="rewound")
    watch = watch_of(Gateways([stream(gap, event(1), event(2), COMPLETED)]), after="100-9")

    items = await all_of(watch)

    assert watch.tally.gaps == 1
    assert watch.tally.duplicates == 0
    assert ids(items) == ["100-1", "100-2", "100-3"]
    assert any(isinstance(item, ControlFrame) and item.payload["reason"] == "rewound" for item in items)


async def test_the_cursor_of_a_filtered_stream_moves_and_shows_nothing() -> None:
    cursor = b'id: 100-2\nevent: stream.cursor\ndata: {"execution_id":"x","id":"100-2"}\n\n'
    gateways = Gateways([stream(b"retry: 10\n", event(1), cursor, broken=True), stream(COMPLETED)])
    watch = watch_of(gateways, types="log")

    assert ids(await all_of(watch)) == ["100-1", "100-3"]
    assert gateways.asked[1] == ("b", "100-2")


async def test_control_frames_do_not_move_the_cursor() -> None:
    gateways = Gateways([stream(b"retry: 10\n", event(1), CAUGHT_UP, broken=True), stream(COMPLETED)])

    await all_of(watch_of(gateways))

    assert gateways.asked[1] == ("b", "100-1")


async def test_only_live_events_have_a_latency() -> None:
    watch = watch_of(Gateways([stream(event(1), CAUGHT_UP, event(2), COMPLETED)]))

    received = [item for item in await all_of(watch) if isinstance(item, Received)]

    assert [item.latency_seconds for item in received] == [None, pytest.approx(0.25), pytest.approx(0.25)]
    assert len(watch.tally.latencies) == 2


async def test_a_resumed_connection_is_a_replay_until_it_has_caught_up() -> None:
    gateways = Gateways([stream(b"retry: 10\n", CAUGHT_UP, event(1), broken=True), stream(event(2), COMPLETED)])
    watch = watch_of(gateways)

    await all_of(watch)

    assert len(watch.tally.latencies) == 1


async def test_the_gateways_retry_is_how_long_a_watch_waits() -> None:
    watch = watch_of(Gateways([stream(b"retry: 40\n", event(1)), stream(COMPLETED)]), jitter=lambda: 1.0)

    disconnected = [item for item in await all_of(watch) if isinstance(item, Disconnected)]

    assert [item.delay_seconds for item in disconnected] == [pytest.approx(0.04)]


async def test_a_gateway_that_is_not_ready_is_asked_again() -> None:
    busy = httpx.Response(503, json={"detail": "Redis does not answer this gateway"})
    gateways = Gateways([stream(b"retry: 10\n", event(1)), busy, stream(COMPLETED)])
    watch = watch_of(gateways)

    items = await all_of(watch)

    assert ids(items) == ["100-1", "100-3"]
    assert "Redis does not answer this gateway" in [item.reason for item in items if isinstance(item, Disconnected)]


async def test_an_unknown_execution_ends_the_watch_with_its_own_exit_code() -> None:
    watch = watch_of(Gateways([httpx.Response(404, json={"detail": "no execution x"})]))

    with pytest.raises(GatewayRequestError, match="no execution x") as refusal:
        await all_of(watch)

    assert refusal.value.code is ExitCode.UNKNOWN_EXECUTION


async def test_a_cursor_at_the_end_asks_how_it_ended() -> None:
    gateways = Gateways([httpx.Response(204), httpx.Response(200, json={"status": "timed_out"})])
    watch = watch_of(gateways, after="100-3")

    assert ids(await all_of(watch)) == []
    assert watch.ending == "timed_out"


async def test_an_ended_execution_whose_log_has_expired_still_has_its_ending() -> None:
    """Case 8: what is gone is told, and nobody waits for it."""
    gap = control("gap", requested="100-1", earliest=None, latest=None, reason="expired")
    watch = watch_of(Gateways([stream(gap, control("end", status="failed"))]), after="100-1")

    await all_of(watch)

    assert (watch.ending, watch.tally.gaps) == ("failed", 1)


async def test_nobody_there_is_told_after_a_while() -> None:
    refused = [httpx.ConnectError("connection refused") for _ in range(3)]
    watch = watch_of(Gateways([*refused]), first_contact_seconds=0.0)

    with pytest.raises(GatewayRequestError, match=r"no gateway answers at http://a, http://b \(connection refused\)"):
        await all_of(watch)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"id: 100-1\nevent: log\ndata: {\n\n", id="no JSON"),
        pytest.param(b"id: 100-1\nevent: log\ndata: []\n\n", id="no object"),
        pytest.param(b'event: log\ndata: {"type":"log"}\n\n', id="no id"),
        pytest.param(b'id: x-1\nevent: log\ndata: {"type":"log"}\n\n', id="a foreign id"),
        pytest.param(b'id: 100-1\nevent: log\ndata: {"type":7}\n\n', id="no type"),
    ],
)
async def test_what_no_gateway_of_ours_sends_is_refused(frame: bytes) -> None:
    with pytest.raises(GatewayRequestError, match="the gateway sent"):
        await all_of(watch_of(Gateways([stream(frame)])))


async def test_a_page_that_is_no_stream_is_refused() -> None:
    with pytest.raises(GatewayRequestError, match="is it a gateway"):
        await all_of(watch_of(Gateways([httpx.Response(200, html="<html>")])))


async def test_a_log_that_cannot_be_read_ends_the_watch() -> None:
    failure = control("error", code="not_a_log", detail="another program wrote it")

    with pytest.raises(GatewayRequestError, match="another program wrote it"):
        await all_of(watch_of(Gateways([stream(OPEN, failure)])))


@pytest.mark.parametrize(
    ("ending", "code"),
    [("completed", 0), ("failed", 1), ("cancelled", 1), ("timed_out", 1), ("running", 1), (None, 1)],
)
async def test_only_completion_is_success(ending: str | None, code: int) -> None:
    assert exit_code_of(ending) == code
