"""examples/assistant, driven from outside over HTTP, while its processes are killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis import Redis

from tests.chromium import page
from tests.e2e.application import EXAMPLES, Application, application
from tests.e2e.waiting import eventually
from tests.patience import patient
from tests.servers import RunningServer, free_port

pytestmark = pytest.mark.anyio

ANSWER: Final = "This model answers every question in the same words."
ENDINGS: Final = {"command_output", "error"}
WANTS_STREAM: Final = {"Accept": "text/event-stream"}


@dataclass(frozen=True)
class Event:
    id: str | None
    name: str
    data: Any


async def events_of(response: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "event" in fields:
            yield Event(fields.get("id"), fields["event"], json.loads(fields["data"]))
            fields = {}


def asked(user_id: str, user_query: str, **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "user_query": user_query, "timeout_seconds": 60, **more}


class Turn(list[Event]):
    """What has come of it. ``opened`` counts how often it was asked for; ``port`` is the client's of the stream."""

    opened = 0
    port: int
    id: str

    async def read(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Turn:
        """Until the ending; where the stream is cut it comes back with the id of the last event."""
        while not (self and self[-1].name in ENDINGS):
            headers = WANTS_STREAM | ({"Last-Event-ID": self[-1].id or ""} if self else {})
            try:
                async with client.stream("POST", "/invoke_agent_stream", json=body, headers=headers) as response:
                    if response.status_code in {502, 503}:
                        continue
                    assert response.status_code == 200, await response.aread()
                    self.id = response.headers["x-turn-id"]
                    self.port = response.extensions["network_stream"].get_extra_info("client_addr")[1]
                    self.opened += 1
                    async for event in events_of(response):
                        self.append(event)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        return self

    def of(self, direction: str) -> list[dict[str, Any]]:
        return [event.data for event in self if event.name == "trace" and event.data["direction"] == direction]

    @property
    def text(self) -> str:
        return "".join(data.get("token", "") for data in self.of("model_to_agent"))


async def turn(client: httpx.AsyncClient, user_id: str, user_query: str, **more: Any) -> Turn:
    return await Turn().read(client, asked(user_id, user_query, **more))


async def initialized(client: httpx.AsyncClient, user_id: str) -> str:
    begun = await client.post("/initialize", json={"user_id": user_id})
    assert begun.status_code == 200, begun.text
    assert begun.json() == {"user_id": user_id, "workflow_name": "todo", "new": True}
    return user_id


@contextmanager
def offline_model() -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """Gives its process, and what OpenAI's SDK has to know of it."""
    port = free_port()
    command = ["offline_model.py", "--port", str(port), "--tokens-per-second", "10", "--text", ANSWER]
    with subprocess.Popen([sys.executable, *command], cwd=EXAMPLES / "offline_model") as process:
        try:
            yield process, {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "none"}
        finally:
            process.kill()


async def test_the_assistant_application(fresh_server: RunningServer, tmp_path: Path) -> None:
    with (
        offline_model() as (model, environment),
        application("assistant", "agent:registry", fresh_server, tmp_path, **environment) as (app, url),
    ):
        async with httpx.AsyncClient(base_url=url, timeout=patient(20)) as client, asyncio.timeout(patient(90)):
            await its_stream(client)
            await a_session_is_kept_between_turns(app, client)
            await without_a_session(client)
            await one_turn_at_a_time(app, client)
            await turns_that_go_wrong(client)
            await the_answer_itself(client)
            await what_is_wrong(client)
            await coming_back(app, client)
            await events_are_lost(fresh_server, client)
            await its_page(url, tmp_path)
            await a_provider_that_hangs(model, client)
            await deaths(app, client)
            await a_provider_that_is_away(model, client)
            await no_worker(app, client)


async def its_stream(client: httpx.AsyncClient) -> None:
    user = await initialized(client, "ann")
    body = asked(user, "create a todo: buy milk and then why is the sky blue?", show_agent_traces=True)
    async with client.stream("POST", "/invoke_agent_stream", json=body, headers=WANTS_STREAM) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].split(";")[0] == "text/event-stream"
        assert response.headers.get_list("cache-control") == ["no-cache"]
        assert response.headers.get_list("x-accel-buffering") == ["no"]
        events = Turn([event async for event in events_of(response)])
    # Traces first, all of them, and then the one result.
    assert [event.name for event in events] == ["trace"] * (len(events) - 1) + ["command_output"]
    assert len({event.id for event in events}) == len(events)
    assert all({"direction", "raw_command", "timestamp_ms"} <= event.data.keys() for event in events[:-1])
    commands = [("create a todo: buy milk", "create_todo", {"title": "buy milk"})]
    question = "why is the sky blue?"
    commands.append((question, "ask_model", {"question": question}))
    said = [(each["raw_command"], each["command_name"], each["parameters"]) for each in events.of("agent_to_workflow")]
    assert said == commands
    heard = events.of("workflow_to_agent")
    assert [(each["raw_command"], each["success"]) for each in heard] == [(raw, True) for raw, _, _ in commands]
    assert [each["response_text"] for each in heard] == ["created todo 1: buy milk", ANSWER]
    assert len(events.of("model_to_agent")) > 3
    assert events.text == ANSWER
    output = events[-1].data
    assert (output["success"], output["workflow_name"]) == (True, "todo")
    assert [each["response_text"] for each in output["command_responses"]] == ["created todo 1: buy milk", ANSWER]

    # The words of the seed's own curl command, which asks for no traces.
    plain = await turn(client, user, "create a todo")
    assert [event.name for event in plain] == ["command_output"]
    assert plain[0].data["success"] is True
    off = await turn(client, user, "create a todo", show_agent_traces=False)
    assert [event.name for event in off] == ["command_output"]

    stripped = await turn(client, user, "///create a todo: stripped", show_agent_traces=True)
    (told,) = stripped.of("agent_to_workflow")
    assert (told["raw_command"], told["parameters"]) == ("create a todo: stripped", {"title": "stripped"})


async def a_session_is_kept_between_turns(app: Application, client: httpx.AsyncClient) -> None:
    """On whichever instance; and a turn that fails has changed nothing."""
    user = await initialized(client, "keeper")
    for number, instance in enumerate(app.instances, start=1):
        async with httpx.AsyncClient(base_url=instance, timeout=patient(20)) as direct:
            done = await turn(direct, user, f"create a todo {number}")
            again = await direct.post("/initialize", json={"user_id": user})
        assert done[-1].data["command_responses"][0]["response_text"] == f"created todo {number}: {number}"
        assert again.json()["new"] is False
    assert (await turn(client, user, "create a todo lost; fail"))[-1].name == "error"
    for query in ("complete todo 2; list todos", "list my todos"):
        listed = (await turn(client, user, query))[-1].data["command_responses"][-1]
        assert listed["response_text"] == "1. [ ] 1\n2. [x] 2"
    # What cannot be done is no error: it is the output that says so.
    (undone,) = await turn(client, user, "complete todo 9")
    assert (undone.name, undone.data["success"]) == ("command_output", False)


async def without_a_session(client: httpx.AsyncClient) -> None:
    """A status before the stream; who asks for a stream reads the same as an event."""
    for path in ("/invoke_agent_stream", "/invoke_agent"):
        unknown = await client.post(path, json=asked("nobody", "create a todo"))
        assert unknown.status_code == 404
        assert "/initialize" in unknown.json()["detail"]
    streamed = await client.post("/invoke_agent_stream", json=asked("nobody", "create a todo"), headers=WANTS_STREAM)
    assert streamed.status_code == 404
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.text == f"event: error\ndata: {json.dumps({'code': 404, 'detail': unknown.json()['detail']})}\n\n"


async def one_turn_at_a_time(app: Application, client: httpx.AsyncClient) -> None:
    """Of a user, over both instances and both endpoints; the turn in flight is not disturbed."""
    user, other = await initialized(client, "busy"), await initialized(client, "idle")
    first = Turn()
    running = asyncio.create_task(first.read(client, asked(user, "wait 1", show_agent_traces=True)))

    async def is_in_flight() -> bool:
        return bool(first)

    await eventually(is_in_flight)
    for instance in app.instances:
        for path in ("/invoke_agent_stream", "/invoke_agent"):
            refused = await client.post(f"{instance}{path}", json=asked(user, "create a todo"))
            assert refused.status_code == 409
            assert refused.json()["execution_id"] == first.id
    streamed = await client.post("/invoke_agent_stream", json=asked(user, "create a todo"), headers=WANTS_STREAM)
    assert streamed.status_code == 409
    assert streamed.text.startswith('event: error\ndata: {"code": 409')
    assert (await turn(client, other, "create a todo"))[-1].name == "command_output"
    assert [event.name for event in await running] == ["trace", "trace", "command_output"]
    assert (await turn(client, user, "list todos"))[-1].data["command_responses"][0]["response_text"] == (
        "there are no todos"
    )


async def turns_that_go_wrong(client: httpx.AsyncClient) -> None:
    """In the stream: one ``error``, behind the traces that there were; the user's next turn runs."""
    user = await initialized(client, "unlucky")
    late = await turn(client, user, "create a todo; wait 30", timeout_seconds=1, show_agent_traces=True)
    assert [event.name for event in late] == ["trace"] * 3 + ["error"]
    assert late[-1].data.keys() == {"code", "detail"}
    assert late[-1].data["code"] == 504
    broken = await turn(client, user, "create a todo; fail", show_agent_traces=True)
    assert [event.name for event in broken] == ["trace"] * 3 + ["error"]
    assert broken[-1].data == {"code": 500, "detail": "the command 'fail' always fails"}
    assert (await turn(client, user, "create a todo"))[-1].name == "command_output"


async def the_answer_itself(client: httpx.AsyncClient) -> None:
    """``/invoke_agent`` takes the same request, and waits."""
    user = await initialized(client, "patient")
    plain = await client.post("/invoke_agent", json=asked(user, "/create a todo"))
    assert plain.status_code == 200
    assert (plain.json()["success"], plain.json()["workflow_name"]) == (True, "todo")
    assert "traces" not in plain.json()
    traced = await client.post("/invoke_agent", json=asked(user, "list todos", show_agent_traces=True))
    assert [each["direction"] for each in traced.json()["traces"]] == ["agent_to_workflow", "workflow_to_agent"]
    failed = await client.post("/invoke_agent", json=asked(user, "fail"))
    assert failed.status_code == 500
    assert "always fails" in failed.json()["detail"]
    late = await client.post("/invoke_agent", json=asked(user, "wait 30", timeout_seconds=0.5))
    assert late.status_code == 504


async def what_is_wrong(client: httpx.AsyncClient) -> None:
    user = await initialized(client, "hostile")
    path, kind = "/invoke_agent_stream", {"Content-Type": "application/json"}
    for wrong, field in (
        ({"user_query": "///"}, "user_query"),
        ({"user_query": " ; "}, "user_query"),
        ({"user_query": "x" * 10_001}, "user_query"),
        ({"user_query": "list todos;" * 21}, "user_query"),
        ({"user_query": None}, "user_query"),
        ({"user_query": "\ud800"}, "user_query"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "u" * 129}, "user_id"),
        ({"user_id": "a\nb"}, "user_id"),
        ({"user_id": {"$ne": 1}}, "user_id"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"timeout_seconds": 1e308}, "timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"show_agent_traces": "sometimes"}, "show_agent_traces"),
    ):
        refused = await client.post(path, content=json.dumps(asked(user, "x") | wrong), headers=kind)
        assert (refused.status_code, refused.json()["field"]) == (422, field)
    for body, status in (("", 422), ("no", 422), ("[]", 422), ("[" * 100_000, 400), (b"\xff\xfe", 422)):
        refused = await client.post(path, content=body, headers=kind)
        assert refused.status_code == status, body[:9]
    large = await client.post(path, json=asked(user, "x" * 10_000_000))
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1_000_000

    assert (await client.post(path, content=in_pieces(), headers=kind)).status_code == 413
    for given, status in (("nonsense", 400), ("nowhere:1-1", 404), ("a.b:1-1", 400)):
        back = await client.post(path, json=asked(user, "x"), headers={"Last-Event-ID": given})
        assert back.status_code == status, given
    assert (await client.get(path)).status_code == 405
    assert (await client.get("/docs")).status_code == 200


async def coming_back(app: Application, client: httpx.AsyncClient) -> None:
    """On the other instance, from any event; nobody else can, and who has seen all is told that there is no more."""
    user, stranger = await initialized(client, "back"), await initialized(client, "stranger")
    body = asked(user, "create a todo; list todos", show_agent_traces=True)
    whole = await Turn().read(client, body)
    assert len(whole) == 5
    for instance in app.instances:
        async with httpx.AsyncClient(base_url=instance, timeout=patient(20)) as direct:
            for seen in range(1, len(whole)):
                assert await Turn(whole[:seen]).read(direct, body) == whole
            start = {"Last-Event-ID": f"{whole.id}:0-0"}
            async with direct.stream("POST", "/invoke_agent_stream", json=body, headers=start) as response:
                assert [event async for event in events_of(response)] == whole
            done = await direct.post("/invoke_agent_stream", json=body, headers={"Last-Event-ID": whole[-1].id or ""})
            assert done.status_code == 204
            mine = f"/invoke_agent_stream/{whole.id}?user_id={user}&show_agent_traces=true"
            async with direct.stream("GET", mine) as response:
                assert [event async for event in events_of(response)] == whole
            theirs = await direct.get(f"/invoke_agent_stream/{whole.id}?user_id={stranger}")
            nowhere = await direct.get(f"/invoke_agent_stream/nowhere?user_id={stranger}")
            assert theirs.status_code == nowhere.status_code == 404
            assert theirs.json()["detail"].replace(whole.id, "nowhere") == nowhere.json()["detail"]
            stolen = asked(stranger, "x")
            headers = {"Last-Event-ID": whole[0].id or ""}
            assert (await direct.post("/invoke_agent_stream", json=stolen, headers=headers)).status_code == 404


async def events_are_lost(server: RunningServer, client: httpx.AsyncClient) -> None:
    """A viewer whose traces have been trimmed is told so, and gets its one ending all the same."""
    user = await initialized(client, "late")
    body = asked(user, "create a todo; list todos", show_agent_traces=True)
    whole = await Turn().read(client, body)
    log = f"tr:{{{whole.id}}}:log"
    path = f"/invoke_agent_stream/{whole.id}?user_id={user}&show_agent_traces=true"

    async def what_is_left() -> list[tuple[str, Any]]:
        async with client.stream("GET", path) as response:
            return [(event.name, event.data) async for event in events_of(response)]

    lost = ("trace", {"direction": "lost", "raw_command": None, "reason": "trimmed"})
    with Redis.from_url(server.url) as redis:
        redis.xtrim(log, maxlen=2, approximate=False)
        assert await what_is_left() == [lost, ("command_output", whole[-1].data)]
        redis.delete(log)
        told, ending = await what_is_left()
        assert told[1]["direction"] == "lost"
        assert (ending[0], ending[1]["code"]) == ("error", 410)
    # What was kept of the session stood there.
    assert (await client.post("/invoke_agent_stream", json=body)).status_code == 404


async def deaths(app: Application, client: httpx.AsyncClient) -> None:
    """The instance that serves the stream is killed, and the worker: each command is done once, and told to its end."""
    user = await initialized(client, "survivor")
    body = asked(user, "create a todo once; wait 1; why?; list todos", show_agent_traces=True)
    viewer = Turn()
    watching = asyncio.create_task(viewer.read(client, body))

    async def has_waited() -> bool:
        return len(viewer.of("workflow_to_agent")) >= 2

    await eventually(has_waited)

    async def is_answered() -> bool:
        return viewer.text != ""

    await eventually(is_answered)
    serving = app.serving(viewer.port)
    app.kill_instance(serving)
    app.kill_workers()
    app.new_worker()
    events = await watching
    # It was cut off: the instance that was killed was its own, and its turn was in flight still.
    assert events.opened == 2
    assert [event.name for event in events] == ["trace"] * (len(events) - 1) + ["command_output"]
    assert len({event.id for event in events}) == len(events)
    assert [each["command_name"] for each in events.of("workflow_to_agent")] == [
        "create_todo",
        "wait",
        "ask_model",
        "list_todos",
    ]
    # The answer was begun again, and says so: nobody shows half of two.
    pieces = events.of("model_to_agent")
    (reset,) = [place for place, data in enumerate(pieces) if data.get("reset")]
    before, after = ("".join(data.get("token", "") for data in part) for part in (pieces[:reset], pieces[reset:]))
    assert before != ""
    assert ANSWER.startswith(before)
    assert after == events[-1].data["command_responses"][2]["response_text"] == ANSWER
    assert [todo["title"] for todo in events[-1].data["todos"]] == ["once"]
    async with httpx.AsyncClient(base_url=app.instances[1 - serving], timeout=patient(20)) as other:
        assert await Turn(events[:1]).read(other, body) == events


async def a_provider_that_hangs(model: subprocess.Popen[bytes], client: httpx.AsyncClient) -> None:
    """The turn's own time is over before the provider's."""
    user = await initialized(client, "hanging")
    model.send_signal(signal.SIGSTOP)
    try:
        (late,) = await turn(client, user, "why?", timeout_seconds=1)
    finally:
        model.send_signal(signal.SIGCONT)
    assert (late.name, late.data["code"]) == ("error", 504)


async def a_provider_that_is_away(model: subprocess.Popen[bytes], client: httpx.AsyncClient) -> None:
    user = await initialized(client, "alone")
    model.kill()
    model.wait()
    asking, failed = await turn(client, user, "why?", show_agent_traces=True)
    assert (asking.data["direction"], failed.name) == ("agent_to_workflow", "error")
    assert failed.data == {"code": 500, "detail": "Connection error."}


async def no_worker(app: Application, client: httpx.AsyncClient) -> None:
    """The timeout counts from the request, whether a worker is there or not."""
    user = await initialized(client, "waiting")
    app.kill_workers()
    (late,) = await turn(client, user, "create a todo", timeout_seconds=0.5)
    assert (late.name, late.data["code"]) == ("error", 504)


async def its_page(url: str, directory: Path) -> None:
    """In a browser: traces, the tokens of the answer, and the output; an error is shown as such."""
    async with page(f"{url}/", directory) as browser:
        await browser.evaluate("document.querySelector('#ask button').click()")
        await browser.until("document.getElementById('status').textContent === 'command_output'")
        assert await browser.evaluate("document.getElementById('traces').children.length") == 8
        assert await browser.evaluate("document.getElementById('tokens').textContent") == ANSWER
        assert "buy milk" in await browser.evaluate("document.getElementById('output').textContent")
        await browser.evaluate("document.getElementById('query').value = 'fail'")
        await browser.evaluate("document.querySelector('#ask button').click()")
        await browser.until("document.getElementById('status').textContent.startsWith('error 500')")
        assert browser.errors == []
