"""The activity over HTTP: resumed like an execution's events, read once for all viewers, shown to whom it concerns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent

from tailrace.bus import Bus
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.gateway.access.activity_filter import ActivityFilter, viewer_of
from tailrace.gateway.app import create_app
from tailrace.gateway.auth.principal import ANONYMOUS, Principal
from tailrace.gateway.settings import read_settings
from tailrace.gateway.wire.activity import ACTIVITY_SSE, ACTIVITY_SSE_UNNAMED
from tests.integration.gateway.live import live_app
from tests.integration.workers.watching import until_true
from tests.patience import patient

pytestmark = pytest.mark.anyio

TS = "2026-01-02T03:04:05.000000Z"


class Viewer:
    """One SSE response of /v1/activity, and what has come of it."""

    def __init__(self, source: EventSource) -> None:
        self._events = source.aiter_sse()
        self.seen: list[ServerSentEvent] = []

    async def until(self, event: str, execution_id: str | None = None) -> ServerSentEvent:
        async with asyncio.timeout(patient(10)):
            while True:
                sse = await anext(self._events)
                if not sse.data:
                    # A browser dispatches nothing for a retry, or an id alone.
                    continue
                self.seen.append(sse)
                if sse.event == event and execution_id in {None, json.loads(sse.data).get("execution_id")}:
                    return sse

    @property
    def changes(self) -> list[tuple[str, str]]:
        return [(sse.event, json.loads(sse.data)["execution_id"]) for sse in self.seen if _is_change(sse)]


def _is_change(sse: ServerSentEvent) -> bool:
    return not sse.event.startswith("stream.")


@asynccontextmanager
async def viewer(
    client: httpx.AsyncClient, query: Mapping[str, str] | None = None, after: str | None = None
) -> AsyncGenerator[Viewer, None]:
    headers = {} if after is None else {"Last-Event-ID": after}
    async with client.stream("GET", "/v1/activity", params=query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Viewer(EventSource(response))


async def run(bus: Bus, execution_id: str, pipeline: str | None = None) -> None:
    async with bus.execution(execution_id, pipeline=pipeline):
        pass


async def test_it_tells_what_happens_from_now_on(bus: Bus, client: httpx.AsyncClient) -> None:
    await run(bus, "before")
    await bus.activity.flush()
    async with viewer(client) as watching:
        await watching.until("stream.caught_up")
        await bus.submit("document", {}, execution_id="run")
        await run(bus, "run")
        last = await watching.until("execution.completed", "run")
    assert watching.changes == [
        ("execution.queued", "run"),
        ("execution.started", "run"),
        ("execution.completed", "run"),
    ]
    told = json.loads(last.data)
    assert told["cursor"] == str(await bus.log.latest("run"))
    assert (told["pipeline"], told["tenant"], told["data"]) == ("document", None, {"result": None})
    opened = json.loads(watching.seen[0].data)
    assert opened.keys() == {"cursor", "head"}


async def test_who_comes_back_misses_and_repeats_nothing(bus: Bus, client: httpx.AsyncClient) -> None:
    for number in range(4):
        await run(bus, f"run-{number}")
    async with viewer(client, {"from": "0"}) as whole:
        await whole.until("execution.completed", "run-3")
    ids = [sse.id for sse in whole.seen if _is_change(sse)]
    for index in (0, 3, 6):
        # The header is what was seen last; the query stays in the URL of who reconnects.
        async with viewer(client, {"from": "0"}, after=ids[index]) as resumed:
            await resumed.until("execution.completed", "run-3")
        assert resumed.changes == whole.changes[index + 1 :]


async def test_a_place_that_is_gone_is_told_before_anything_else(bus: Bus, client: httpx.AsyncClient) -> None:
    await run(bus, "run")
    await bus.activity.flush()
    async with viewer(client, after="5-5") as watching:
        await watching.until("execution.completed", "run")
    events = [sse.event for sse in watching.seen]
    assert events.index("stream.gap") < events.index("execution.started")


async def test_a_hundred_viewers_cost_redis_one_reader(bus: Bus, client: httpx.AsyncClient) -> None:
    """Commands per change do not rise with the viewers."""
    spent = {}
    for count in (1, 100):
        async with AsyncExitStack() as stack:
            watching = [await stack.enter_async_context(viewer(client)) for _ in range(count)]
            await asyncio.gather(*(each.until("stream.caught_up") for each in watching))
            before = await reads(bus)
            for number in range(20):
                bus.activity.note(f"run-{number}", None, "custom.progress", TS, pipeline="p")
                await bus.activity.flush()
            await asyncio.gather(*(each.until("custom.progress", "run-19") for each in watching))
            spent[count] = await reads(bus) - before
            assert all(len(each.changes) == 20 for each in watching)
    assert spent[100] <= spent[1] + 5


async def reads(bus: Bus) -> int:
    """How often anybody has read a stream so far."""
    info = (await bus.commands.command("INFO", "commandstats")).decode()
    names = ("xread", "xrange")
    lines = [line for line in info.splitlines() if line.startswith(tuple(f"cmdstat_{name}:" for name in names))]
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"types": "execution.completed"}, ["one", "two"]),
        ({"types": "execution.*", "pipeline": "document"}, ["one", "one"]),
        ({"pipeline": "other", "types": "execution.completed"}, ["two"]),
        ({"tenant": "acme"}, []),
    ],
)
async def test_a_viewer_sees_what_it_asks_for(
    bus: Bus, client: httpx.AsyncClient, query: dict[str, str], expected: list[str]
) -> None:
    await run(bus, "one", "document")
    await run(bus, "two", "other")
    bus.activity.note("end", None, "custom.end", TS, tenant="acme", pipeline="document")
    bus.activity.note("end", None, "execution.completed", TS, tenant="acme", pipeline=query.get("pipeline", "p"))
    async with viewer(client, {"from": "0", **query}) as watching:
        await watching.until("execution.completed" if "types" in query else "custom.end", "end")
    seen = [execution_id for _, execution_id in watching.changes if execution_id != "end"]
    assert seen == expected


async def test_unnamed_events_carry_their_type(bus: Bus, client: httpx.AsyncClient) -> None:
    await run(bus, "run")
    async with viewer(client, {"from": "0", "events": "message"}) as watching:
        while not (told := json.loads((await watching.until("message")).data)).get("type", "").endswith("completed"):
            pass
    assert told["execution_id"] == "run"


@pytest.mark.parametrize(
    ("query", "field"),
    [({"from": "x"}, "from"), ({"types": "Not A Type"}, "types"), ({"pipeline": "No Name"}, "pipeline")],
)
async def test_bad_wishes_are_refused_by_name(client: httpx.AsyncClient, query: dict[str, str], field: str) -> None:
    answer = await client.get("/v1/activity", params=query)
    assert answer.status_code == 400
    assert answer.json()["field"] == field


async def test_what_strangers_write_breaks_no_frame(bus: Bus, client: httpx.AsyncClient) -> None:
    key = bus.keys.activity()
    for fields in (
        ("t", "activity", "d", '{"type":"x\\n\\nevent: stream.end"}'),
        ("t", "execution.completed", "d", "{}"),
        ("any", "thing"),
    ):
        await bus.commands.command("XADD", key, "*", *fields)
    await run(bus, "run")
    async with viewer(client, {"from": "0"}) as watching:
        await watching.until("execution.completed", "run")
    assert watching.changes == [("execution.started", "run"), ("execution.completed", "run")]


async def test_a_key_that_is_no_stream_is_a_conflict(bus: Bus, client: httpx.AsyncClient) -> None:
    await bus.commands.command("SET", bus.keys.activity(), "x")
    answer = await client.get("/v1/activity")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_a_log")


async def test_viewers_are_sent_away_when_the_gateway_stops(bus: Bus) -> None:
    app = create_app(bus, read_settings(drain_seconds=0))
    async with AsyncExitStack() as stack:
        serving = await stack.enter_async_context(AsyncExitStack())
        url = await serving.enter_async_context(live_app(app))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
        watching = await stack.enter_async_context(viewer(client))
        await watching.until("stream.caught_up")
        _, sent_away = await asyncio.gather(serving.aclose(), watching.until("stream.reconnect"))
    assert json.loads(sent_away.data)["retry_ms"] >= 100


def entry(execution_id: str, tenant: str | None) -> Entry:
    data = {"type": "execution.started", "execution_id": execution_id, "cursor": "5-1", "ts": TS, "data": None}
    return Entry(Cursor(1, 1), "activity", None, TS, json.dumps({**data, "tenant": tenant, "pipeline": None}).encode())


def test_only_what_a_credential_covers_is_shown() -> None:
    acme = Principal("ann", "acme", frozenset({"read"}))
    one_run = Principal("bob", "acme", frozenset({"read"}), runs=("acme__a*",))
    of_acme, of_others = ActivityFilter(viewer=viewer_of(acme)), ActivityFilter(viewer=viewer_of(one_run))
    assert of_acme.wants(entry("any", "acme"))
    assert not of_acme.wants(entry("any", "other"))
    assert not of_acme.wants(entry("any", None))
    assert of_others.wants(entry("acme__a1", "acme"))
    assert not of_others.wants(entry("acme__b1", "acme"))
    assert viewer_of(ANONYMOUS) is None


def test_viewers_who_see_the_same_share_their_frames() -> None:
    ann, bob = (Principal(name, "acme", frozenset({"read"}), token_id=name) for name in ("ann", "bob"))
    assert ActivityFilter(viewer=viewer_of(ann)) == ActivityFilter(viewer=viewer_of(bob))


def test_a_strangers_entry_moves_the_cursor_only() -> None:
    strange = Entry(Cursor(7, 1), "execution.completed", None, TS, b"{}")
    assert ACTIVITY_SSE.entry("activity", strange) == (b'id: 7-1\nevent: stream.cursor\ndata: {"id":"7-1"}\n\n')
    assert ACTIVITY_SSE_UNNAMED.control("stream.open", {"execution_id": "activity", "cursor": "1-1"}) == (
        b'data: {"type":"stream.open","cursor":"1-1"}\n\n'
    )


async def caught_up(lines: AsyncIterator[str]) -> None:
    """Before that, a viewer may not have joined yet. Hold on to the lines: without them the response is closed."""
    async for line in lines:
        if line == "event: stream.caught_up":
            return
    raise AssertionError("the stream ended")


async def stats(client: httpx.AsyncClient) -> Any:
    answer = await client.get("/v1/stats")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_stats_count_what_is_under_way(bus: Bus, client: httpx.AsyncClient) -> None:
    async def counted(status: str, count: int) -> bool:
        return bool((await stats(client))["executions"]["by_status"][status] == count)

    await bus.submit("document", {}, execution_id="waiting")
    async with bus.execution("run", pipeline="ingest"):
        await until_true(lambda: counted("queued", 1))
        await until_true(lambda: counted("running", 1))
        now = (await stats(client))["executions"]
    assert now["by_pipeline"] == {"document": 1, "ingest": 1}
    assert (now["total"], now["complete"]) == (2, True)
    await until_true(lambda: counted("running", 0))


async def test_stats_count_the_viewers_of_this_gateway(bus: Bus, client: httpx.AsyncClient) -> None:
    async with bus.execution("run"), viewer(client) as watching:
        await watching.until("stream.caught_up")
        async with client.stream("GET", "/v1/executions/run/events") as response:
            lines = response.aiter_lines()
            await caught_up(lines)
            own = (await stats(client))["gateway"]
    assert (own["viewers"], own["activity_viewers"], own["watched_executions"]) == (2, 1, 1)
    assert own["counters"]["appended_events"] >= 1
