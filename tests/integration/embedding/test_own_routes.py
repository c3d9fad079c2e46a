"""Routes of an application's own, with shapes of its own: ``gateway.stream``, ``socket``, ``session``, ``page``."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import Response

from tailrace import (
    Bus,
    BusSettings,
    Entry,
    Frame,
    Gap,
    Gateway,
    GatewaySettings,
    InvalidInputError,
    NdjsonWire,
    ShownEntry,
    SocketWire,
    SseWire,
    State,
    frame,
    open_bus,
)
from tailrace.gateway.presence import presence, unwatched
from tailrace.gateway.wire.wire import frames_of
from tests.integration.embedding.served import serving
from tests.patience import patient

pytestmark = pytest.mark.anyio


class AgentWire(SseWire):
    """Named events of an assistant: some entries are not shown, one is several frames, one cannot be shown."""

    def __init__(self, *, traces: bool = True) -> None:
        self.traces = traces

    def show(self, entry: ShownEntry) -> Frame | Iterator[Frame] | None:
        match entry.type:
            case "trace" if self.traces:
                return frame("trace", entry.data)
            case "pair":
                return iter((frame("first", entry.data), frame("second", entry.data)))
            case "broken":
                raise ValueError(f"entry {entry.data} of {entry.execution_id}")
            case "execution.completed":
                return frame("command_output", entry.data["result"])
        return None

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        return frame("lost", {"of": execution_id, "reason": gap.reason})


class LineWire(NdjsonWire):
    def show(self, entry: ShownEntry) -> Frame:
        return frame({"kind": entry.type, "of": entry.execution_id})


class PlanWire(SocketWire):
    cursor_field = "event_id"

    def show(self, entry: ShownEntry) -> Frame:
        return frame({"event_type": entry.type, "plan_id": entry.execution_id, "data": entry.data})


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@asynccontextmanager
async def called(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=patient(30)) as asking:
        yield asking


def gateway_of(bus: Bus) -> Gateway:
    return Gateway(bus, settings=GatewaySettings(drain_seconds=0))


async def publish(bus: Bus, execution_id: str, *events: tuple[str, Any]) -> None:
    async with aclosing(bus.publisher(execution_id)) as publisher:
        for kind, data in events:
            await publisher.emit(kind, data)


WORK = [("trace", 1), ("hidden", 2), ("pair", 3), ("broken", 4), ("trace", 5)]
ENDING = ("execution.completed", {"result": {"answer": 42}})


def events_of(body: str) -> list[tuple[str | None, str | None, Any]]:
    """Id, name and data of each block, read by the standard's rules alone."""
    found = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("id"), fields.get("event"), json.loads(fields["data"])))
    return found


async def test_a_wire_of_ones_own_names_hides_and_splits_and_resumes_at_every_frame(bus: Bus) -> None:
    await publish(bus, "e", *WORK, ENDING)
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/agent/{execution_id}")
    async def agent(execution_id: str, request: Request) -> Response:
        return gateway.stream(request, execution_id, wire=AgentWire())

    async with gateway.running(), called(app) as client:
        answer = await client.get("/agent/e")
        assert answer.headers["content-type"].startswith("text/event-stream")
        whole = events_of(answer.text)
        names = [name for _, name, _ in whole]
        assert names == ["trace", "first", "second", "stream.error", "trace", "command_output"]
        assert whole[-1][2] == {"answer": 42}
        assert whole[3][2]["code"] == "entry_not_shown"
        for index, (event_id, _, _) in enumerate(whole):
            resumed = await client.get("/agent/e", headers={"Last-Event-ID": event_id or ""})
            assert events_of(resumed.text) == whole[index + 1 :]
            assert resumed.status_code == (204 if index + 1 == len(whole) else 200)
        wrong = await client.get("/agent/e?lastEventId=other:1-1")
        assert (wrong.status_code, wrong.json()["field"]) == (400, "lastEventId")
        assert (await client.get("/agent/none")).json()["code"] == "execution_unknown"


async def test_a_gap_is_told_in_the_words_of_the_wire_and_an_ending_that_is_not_shown_in_ours(bus: Bus) -> None:
    class Silent(AgentWire):
        def show(self, _: ShownEntry) -> None:
            return None

    await publish(bus, "e", *WORK, ENDING)
    async with aclosing(bus.follow("e")) as following:
        first = await anext(following)
    assert isinstance(first, Entry)
    await bus.commands.command("XTRIM", bus.keys.log("e"), "MAXLEN", 2)
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/{silent}")
    async def agent(silent: bool, request: Request) -> Response:
        return gateway.stream(request, "e", wire=Silent() if silent else AgentWire())

    async with gateway.running(), called(app) as client:
        headers = {"Last-Event-ID": f"e:{first.cursor}"}
        told = events_of((await client.get("/false", headers=headers)).text)
        assert [name for _, name, _ in told] == ["lost", "trace", "command_output"]
        assert told[0] == (None, "lost", {"of": "e", "reason": "trimmed"})
        silent = events_of((await client.get("/true", headers=headers)).text)
        assert [name for _, name, _ in silent] == ["lost", "stream.end"]
        assert silent[1][2]["status"] == "completed"
        assert (await client.get("/true", headers={"Last-Event-ID": silent[1][0] or ""})).status_code == 204


async def test_a_log_that_is_gone_is_told_with_how_it_ended_and_not_again(bus: Bus) -> None:
    await publish(bus, "e", *WORK, ENDING)
    await bus.commands.command("DEL", bus.keys.log("e"))
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/")
    async def agent(request: Request) -> Response:
        return gateway.stream(request, "e", wire=AgentWire())

    async with gateway.running(), called(app) as client:
        told = events_of((await client.get("/")).text)
        assert [name for _, name, _ in told] == ["lost", "stream.end"]
        assert (await client.get("/", headers={"Last-Event-ID": told[-1][0] or ""})).status_code == 204


async def test_viewers_of_equal_wires_share_what_is_rendered(bus: Bus) -> None:
    shown: list[str] = []

    class Counting(SseWire):
        def __init__(self, mark: str) -> None:
            self.mark = mark

        def show(self, _: ShownEntry) -> Frame:
            shown.append(self.mark)
            return frame("shown", self.mark)

    await publish(bus, "e", *[("trace", number) for number in range(20)], ENDING)
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/{mark}")
    async def agent(mark: str, request: Request) -> Response:
        return gateway.stream(request, "e", wire=Counting(mark))

    async with gateway.running(), called(app) as client:
        bodies = await asyncio.gather(*(client.get(f"/{mark}") for mark in ["same"] * 10 + ["other"]))
    assert len({each.text for each in bodies[:-1]}) == 1
    assert shown.count("same") == shown.count("other") == 21


async def test_a_wire_that_fails_is_counted_each_time_and_logged_once(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(bus, "e", *[("broken", number) for number in range(5)], ENDING)
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/")
    async def agent(request: Request) -> Response:
        return gateway.stream(request, "e", wire=AgentWire())

    with caplog.at_level(logging.ERROR):
        async with gateway.running(), called(app) as client:
            assert (await client.get("/")).text.count("entry_not_shown") == 5
    assert bus.counters["wire_errors"] == 5
    assert len([record for record in caplog.records if "AgentWire failed" in record.message]) == 1


async def test_a_post_that_begins_an_execution_resumes_it_elsewhere_by_its_last_event_alone(bus: Bus) -> None:
    begun: list[str] = []

    def application() -> tuple[Gateway, FastAPI]:
        gateway = gateway_of(bus)
        app = FastAPI()

        @app.post("/invoke")
        async def invoke(request: Request, user: str) -> Response:
            execution: str | None = await gateway.resumed(request)
            if execution is None:
                execution = f"{user}-{len(begun)}"
                begun.append(execution)
                await publish(bus, execution, *WORK, ENDING)

            def allow(state: State) -> bool:
                return state.execution_id.startswith(user)

            return gateway.stream(request, execution, wire=AgentWire(), allow=allow)

        return gateway, app

    (first, here), (second, there) = application(), application()
    async with first.running(), second.running(), called(here) as client, called(there) as other:
        whole = events_of((await client.post("/invoke?user=ann")).text)
        headers = {"Last-Event-ID": whole[1][0] or ""}
        assert events_of((await other.post("/invoke?user=ann", headers=headers)).text) == whole[2:]
        assert begun == ["ann-0"]
        stolen = await other.post("/invoke?user=bob", headers=headers)
        assert (stolen.status_code, stolen.json()["code"]) == (404, "execution_unknown")
        nameless = await other.post("/invoke?user=ann", headers={"Last-Event-ID": "1-1"})
        assert nameless.status_code == 400
        assert "names no execution" in nameless.json()["detail"]
        assert begun == ["ann-0"]


async def test_lines_carry_their_cursors_and_resume(bus: Bus) -> None:
    await publish(bus, "e", *WORK, ENDING)
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/")
    async def lines(request: Request) -> Response:
        return gateway.stream(request, "e", wire=LineWire())

    async with gateway.running(), called(app) as client:
        answer = await client.get("/")
        assert answer.headers["content-type"] == "application/x-ndjson"
        whole = [json.loads(line) for line in answer.text.splitlines()]
        assert [each["kind"] for each in whole] == [kind for kind, _ in [*WORK, ENDING]]
        rest = (await client.get("/", params={"from": whole[2]["id"]})).text
        assert [json.loads(line) for line in rest.splitlines()] == whole[3:]


async def test_headers_that_the_route_sets_take_the_place_of_ours(bus: Bus) -> None:
    await publish(bus, "e", *WORK, ENDING)
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/")
    async def stream(request: Request) -> Response:
        response = gateway.stream(request, "e", wire=AgentWire())
        response.headers["Cache-Control"] = "no-cache"
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async with gateway.running(), called(app) as client:
        answer = await client.get("/")
        assert answer.headers.get_list("cache-control") == ["no-cache"]
        assert answer.headers.get_list("x-accel-buffering") == ["no"]
        assert len(answer.headers.get_list("set-cookie")) == 2


async def test_without_a_wire_it_is_our_envelope_with_the_filters_of_the_route(bus: Bus) -> None:
    await publish(bus, "e", *WORK, ENDING)
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/")
    async def plain(request: Request) -> Response:
        return gateway.stream(request, "e", types=["pair"])

    @app.get("/page")
    async def page(request: Request) -> Response:
        return await gateway.page(request, "e", limit=2, types=["trace"], allow=lambda _: True)

    @app.get("/not-mine")
    async def not_mine(request: Request) -> Response:
        return await gateway.page(request, "e", allow=lambda state: state.execution_id != "e")

    @app.get("/wrong")
    async def wrong(request: Request) -> Response:
        return gateway.stream(request, "e", types="pair")

    async with gateway.running(), called(app) as client:
        names = [name for _, name, _ in events_of((await client.get("/?types=trace")).text)]
        assert [name for name in names if name and not name.startswith("stream.")] == ["pair", "execution.completed"]
        lines = (await client.get("/", headers={"Accept": "application/x-ndjson"})).text
        assert '"type":"pair"' in lines
        assert [item["data"] for item in (await client.get("/page")).json()["items"]] == [1, 5]
        refused = await client.get("/not-mine")
        assert (refused.status_code, refused.json()["code"]) == (404, "execution_unknown")
        assert (await client.get("/wrong")).json()["field"] == "types"


@pytest.mark.parametrize("kind", ["time", "callable", "async"])
async def test_a_stream_ends_with_what_its_route_says(bus: Bus, kind: str) -> None:
    await publish(bus, "e", *WORK)
    gateway = gateway_of(bus)
    app = FastAPI()

    async def over() -> bool:
        return True

    @app.get("/")
    async def agent(request: Request) -> Response:
        until: Any = {"time": time.time() + 0.2, "callable": lambda: True, "async": over}[kind]
        return gateway.stream(request, "e", wire=AgentWire(), until=until)

    async with gateway.running(), called(app) as client:
        told = events_of((await client.get("/")).text)
    assert (told[-1][1], told[-1][2]["code"]) == ("stream.error", "token_expired")


class Plans:
    """The socket of a research service: its clients subscribe to plans, as they like."""

    def __init__(self, gateway: Gateway) -> None:
        self.app = FastAPI()

        @self.app.websocket("/plans")
        async def plans(socket: WebSocket) -> None:
            async with gateway.session(
                socket, wire=PlanWire(), allow=lambda state: "secret" not in state.execution_id
            ) as session:
                await session.send(frame({"event_type": "ping"}))
                async for message in session:
                    match message:
                        case {"action": "subscribe", "plan_id": str(plan)}:
                            try:
                                await session.subscribe(plan, after=message.get("after"))
                            except Exception as error:  # noqa: BLE001 - tell_error raises what is none of ours
                                await session.tell_error(error, plan)
                        case {"action": "unsubscribe", "plan_id": str(plan)}:
                            was = await session.unsubscribe(plan)
                            await session.send(frame({"event_type": "unsubscribed", "was": was}))
                        case {"action": "ping"}:
                            await session.send(frame({"event_type": "pong", "on": list(session.subscriptions)}))

        @self.app.websocket("/plans/{plan}")
        async def one(socket: WebSocket, plan: str) -> None:
            await gateway.socket(socket, plan, wire=PlanWire())


async def test_a_socket_with_messages_of_ones_own_subscribes_resumes_and_leaves(bus: Bus) -> None:
    await publish(bus, "done", *WORK, ENDING)
    await publish(bus, "live", *WORK)
    await publish(bus, "secret", *WORK)
    gateway = gateway_of(bus)
    async with (
        gateway.running(),
        serving(Plans(gateway).app) as address,
        websockets.connect(f"ws://{address}/plans") as client,
    ):

        async def said() -> Any:
            return json.loads(await asyncio.wait_for(client.recv(), patient(10)))

        async def say(**message: Any) -> None:
            await client.send(json.dumps(message))

        assert await said() == {"event_type": "ping"}
        await say(action="subscribe", plan_id="done")
        whole = [await said() for _ in range(6)]
        assert [each["event_type"] for each in whole] == [kind for kind, _ in [*WORK, ENDING]]
        await say(action="subscribe", plan_id="done", after=whole[3]["event_id"])
        assert [await said() for _ in range(2)] == whole[4:]
        await say(action="subscribe", plan_id="live", after="tail")
        await say(action="ping")
        assert await said() == {"event_type": "pong", "on": ["live"]}
        await publish(bus, "live", ("news", 1))
        assert (await said())["event_type"] == "news"
        await say(action="unsubscribe", plan_id="live")
        assert await said() == {"event_type": "unsubscribed", "was": True}
        await say(action="subscribe", plan_id="secret")
        assert (await said())["code"] == "execution_unknown"
        await say(action="subscribe", plan_id="live", after="nonsense")
        assert (await said())["code"] == "invalid_cursor"
        await client.send("no json")
        assert (await said())["code"] == "invalid_input"
        await say(action="ping")
        assert (await said())["on"] == []


async def test_a_socket_for_one_execution_ends_with_it_and_says_why_it_cannot_begin(bus: Bus) -> None:
    await publish(bus, "done", *WORK, ENDING)
    gateway = gateway_of(bus)
    async with gateway.running(), serving(Plans(gateway).app) as address:
        async with websockets.connect(f"ws://{address}/plans/done") as client:
            whole = [json.loads(message) async for message in client]
        assert len(whole) == 6
        assert client.close_code == 1000
        async with websockets.connect(f"ws://{address}/plans/done?from={whole[4]['event_id']}") as client:
            assert [json.loads(message) async for message in client] == whole[5:]
        async with websockets.connect(f"ws://{address}/plans/none") as client:
            refused = json.loads(await client.recv())
            await client.wait_closed()
        assert (client.close_code, refused["code"]) == (4404, "execution_unknown")


@pytest.mark.parametrize(
    ("method", "does", "field"),
    [
        ("gap", lambda _, __, gap: None if gap.reason == "hole" else frame("lost", 1), "Own.gap"),
        ("gap", lambda *_: "lost", "frame"),
        ("failed", lambda *_: (), "Own.failed"),
        ("ended", lambda *_: None, "Own.ended"),
        ("cursor", lambda _, __, cursor: str(cursor.n), "parse_cursor"),
        ("cursor", lambda _, __, cursor: f"{cursor}\n", "cursor"),
        ("__hash__", None, "wire"),
    ],
)
def test_a_wire_that_would_hide_a_loss_or_cannot_resume_is_refused_when_it_is_made(
    method: str, does: Any, field: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        type("Own", (AgentWire,), {method: does})()
    assert refused.value.field == field


async def test_several_executions_come_over_one_response_and_resume(bus: Bus) -> None:
    await publish(bus, "a", *WORK, ENDING)
    await publish(bus, "b", *WORK, ENDING)
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/")
    async def several(request: Request) -> Response:
        return gateway.multiplex(request, ["a", "b"], types=["pair"])

    @app.get("/refused")
    async def refused(request: Request) -> Response:
        return gateway.multiplex(request, ["a", "b"], allow=lambda state: state.execution_id == "a")

    async with gateway.running(), called(app) as client:
        whole = [each for each in events_of((await client.get("/")).text) if each[0]]
        assert sorted(data["execution_id"] for _, name, data in whole if name == "pair") == ["a", "b"]
        rest = await client.get("/", headers={"Last-Event-ID": whole[-1][0] or ""})
        assert rest.status_code == 204
        assert (await client.get("/refused")).json()["code"] == "execution_unknown"


async def test_the_activity_of_what_a_user_may_see_is_a_route_of_ones_own(bus: Bus) -> None:
    gateway = gateway_of(bus)
    app = FastAPI()

    def mine(state: State) -> bool:
        return state.execution_id.startswith("mine")

    @app.get("/")
    async def activity(request: Request) -> Response:
        return gateway.activity(request, pipeline="document", allow=mine)

    async with (
        gateway.running(),
        serving(app) as address,
        httpx.AsyncClient(timeout=patient(30)) as client,
        client.stream("GET", f"http://{address}/") as answer,
    ):
        lines = answer.aiter_lines()
        async for line in lines:
            if "stream.caught_up" in line:
                break
        for execution_id in ("others", "mine"):
            await bus.submit("document", {}, execution_id=execution_id)
        async for line in lines:
            if line.startswith("data:") and "execution.queued" in line:
                break
    assert '"mine"' in line


async def test_an_execution_is_cancelled_when_its_last_viewer_has_left_and_not_before(
    bus: Bus, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over two gateways, of which one has a viewer by another route."""
    monkeypatch.setattr(unwatched, "MARGIN_MS", 0)
    monkeypatch.setattr(presence, "REFRESH_SECONDS", 0.2)

    def application(of: Bus) -> tuple[Gateway, FastAPI]:
        gateway, app = gateway_of(of), FastAPI()

        @app.get("/answer")
        async def answer(request: Request) -> Response:
            return gateway.stream(request, "e", wire=AgentWire(), on_disconnect="cancel", grace_seconds=0.5)

        app.include_router(gateway.router)
        return gateway, app

    await bus.submit("document", {}, execution_id="e")
    async with await open_bus(server_url, settings=bus.settings) as other:
        (first, here), (second, there) = application(bus), application(other)
        async with (
            first.running(),
            second.running(),
            serving(here) as near,
            serving(there) as far,
            httpx.AsyncClient(timeout=patient(30)) as client,
        ):
            async with client.stream("GET", f"http://{near}/answer") as viewer:
                assert viewer.status_code == 200
                async with client.stream("GET", f"http://{far}/v1/executions/e/events") as another:
                    # Kept, for it closes the response when it goes.
                    lines = another.aiter_lines()
                    async for line in lines:
                        if "stream.caught_up" in line:
                            break
                    await viewer.aclose()
                    # Rounds in which it would be cancelled, if the viewer elsewhere were not seen.
                    for _ in range(4):
                        await asyncio.sleep(unwatched.ROUND_SECONDS)
                    state = await bus.state("e")
                    assert state is not None
                    assert state.status == "queued"
            async with asyncio.timeout(patient(20)), aclosing(bus.follow("e")) as following:
                events = [item async for item in following if isinstance(item, Entry)]
    assert events[-1].type == "execution.cancelled"
    assert events[-1].data["reason"] == "nobody watches it any more"
    assert bus.counters["cancelled_unwatched"] + other.counters["cancelled_unwatched"] == 1


async def test_the_viewers_of_a_gateway_that_was_killed_count_as_gone(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unwatched, "MARGIN_MS", 0)
    monkeypatch.setattr(unwatched, "BELIEVED_MS", 500)
    await bus.submit("document", {}, execution_id="e")
    gateway = gateway_of(bus)
    async with gateway.running():
        # All that is left of a gateway that had let a viewer in.
        await gateway.context.unwatched.watch("e", 0)
        async with asyncio.timeout(patient(20)), aclosing(bus.follow("e")) as following:
            events = [item async for item in following if isinstance(item, Entry)]
    assert events[-1].type == "execution.cancelled"


class MarksOnlyWire(SseWire):
    """Shows nothing but marks, and says where its viewers stand."""

    def show(self, entry: ShownEntry) -> Frame | None:
        return frame(entry.data) if entry.type == "custom.mark" else None

    def moved(self, execution_id: str) -> Frame:
        return frame("moved", execution_id)


async def test_a_viewer_that_is_shown_nothing_is_told_where_it_stands_where_the_wire_says_so(
    bus: Bus, prefix: str
) -> None:
    gateway = Gateway(bus)
    app = FastAPI(lifespan=gateway.lifespan)

    @app.get("/watch/{run}")
    async def watch(run: str, request: Request) -> Response:
        return gateway.stream(request, run, wire=MarksOnlyWire())

    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=patient(10)) as client,
        aclosing(bus.publisher("run")) as publisher,
    ):
        await publisher.emit("custom.mark", 1)
        await publisher.flush()
        async with client.stream("GET", "/watch/run") as answer:
            lines = answer.aiter_lines()
            seen = ""
            async for line in lines:
                seen = line.removeprefix("id: ") if line.startswith("id: ") else seen
                if line == "data: 1":
                    for number in range(300):
                        await publisher.emit("custom.hidden", number)
                    await publisher.flush()
                if line == "event: moved" and seen.endswith("-301"):
                    break
        await publisher.emit("custom.mark", 2)
        await publisher.emit("execution.completed", {})
        await publisher.flush()
        await bus.commands.command("XTRIM", bus.keys.log("run"), "MAXLEN", 3)
        rest = (await client.get("/watch/run", headers={"Last-Event-ID": seen})).text
    assert "stream.gap" not in rest
    assert "data: 2" in rest


async def test_a_line_that_is_blank_is_refused_because_it_would_be_a_heartbeat(bus: Bus) -> None:
    class BlankWire(NdjsonWire):
        def show(self, entry: ShownEntry) -> Frame:
            return frame(text=" " if entry.type == "custom.blank" else "said")

    gateway = Gateway(bus)
    app = FastAPI(lifespan=gateway.lifespan)

    @app.get("/watch/{run}")
    async def watch(run: str, request: Request) -> Response:
        return gateway.stream(request, run, wire=BlankWire())

    async with aclosing(bus.publisher("run")) as publisher:
        await publisher.emit("custom.blank", 1)
        await publisher.emit("execution.completed", {})
    async with serving(app) as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=patient(10)) as client:
        lines = (await client.get("/watch/run")).text.split("\n")
    assert json.loads(lines[0])["code"] == "entry_not_shown"
    assert lines[1] == "said"


async def test_an_id_that_a_client_made_up_is_its_own_error_and_none_of_the_application(bus: Bus) -> None:
    gateway = Gateway(bus)
    app = FastAPI(lifespan=gateway.lifespan)

    @app.get("/watch/{run}")
    async def watch(run: str, request: Request) -> Response:
        return gateway.stream(request, run, wire=AgentWire())

    @app.get("/several")
    async def several(run: str, request: Request) -> Response:
        return gateway.multiplex(request, [run])

    @app.websocket("/socket/{run}")
    async def serve(socket: WebSocket, run: str) -> None:
        await gateway.socket(socket, run, wire=PlanWire())

    async with serving(app) as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=patient(10)) as client:
        for path in ("/watch/no%20id", f"/watch/{'x' * 200}", "/several?run=no%20id"):
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_execution_id"), path
        async with websockets.connect(f"ws://{address}/socket/{'x' * 5000}") as socket:
            told = json.loads(await socket.recv())
            await socket.wait_closed()
    assert (told["code"], socket.close_code) == ("invalid_execution_id", 4400)
    assert len(told["execution_id"]) == 128


@pytest.mark.parametrize(("given", "kind"), [({"a": 1}, "dict"), ("text", "str"), (7, "int"), ([1], "int")])
def test_what_is_no_frame_is_named_as_what_it_is(given: Any, kind: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^frame: {kind} is no frame; give frame\(…\), several, or None"):
        frames_of(given)


@pytest.mark.parametrize("kind", ["stream", "page"])
async def test_what_begins_while_somebody_asks_is_not_shown_to_whom_it_does_not_belong(
    bus: Bus, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at its state, which says whose it is, and the look whether there is one."""
    gateway = gateway_of(bus)
    app = FastAPI()

    @app.get("/{kind}")
    async def watch(request: Request, kind: str) -> Response:
        def allow(state: State) -> bool:
            return state.labels.get("user") in {None, "bob"}

        if kind == "page":
            return await gateway.page(request, "e", allow=allow)
        return gateway.stream(request, "e", allow=allow)

    read = bus.log.state

    async def overtaken(execution_id: str) -> State | None:
        monkeypatch.setattr(bus.log, "state", read)
        found = await read(execution_id)
        async with bus.execution("e", labels={"user": "ann"}):
            pass
        return found

    async with gateway.running(), called(app) as client:
        monkeypatch.setattr(bus.log, "state", overtaken)
        refused = await client.get(f"/{kind}")
    assert (refused.status_code, refused.json()["code"]) == (404, "execution_unknown")
    assert await bus.state("e") is not None
