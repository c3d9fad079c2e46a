"""examples/pipeline, driven from outside over HTTP and WebSocket, while its processes are killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from redis import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.chromium import page
from tests.e2e.application import EXAMPLES, Application, application
from tests.e2e.waiting import eventually
from tests.patience import patient
from tests.servers import RunningServer, free_port

pytestmark = pytest.mark.anyio

ANN: Final = {"Authorization": "Bearer token-of-ann"}
BOB: Final = {"Authorization": "Bearer token-of-bob"}
TEXT: Final = "to be or not to be that is the question"
STREAMING: Final = {"enabled": True, "emit_progress": True, "buffer_size": 1000, "flush_interval_ms": 10}
STEPS: Final = [{"name": "count", "run": "count"}, {"name": "answer", "run": "answer"}]
TYPES: Final = {"pipeline_start", "step_start", "step_progress", "step_output", "step_complete", "step_error"} | {
    "pipeline_complete",
    "pipeline_error",
    "checkpoint_saved",
}
ENDINGS: Final = {"pipeline_complete", "pipeline_error"}
ANSWER: Final = "This model answers every question in the same words."


async def begin(client: httpx.AsyncClient, pipeline: dict[str, Any]) -> httpx.Response:
    return await client.post("/pipelines/run", json={"pipeline": pipeline, "input": {"text": TEXT}}, headers=ANN)


async def sse(client: httpx.AsyncClient, path: str, **headers: str) -> list[tuple[str, str, Any]]:
    body = (await client.get(path, headers=ANN | headers)).text
    events = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
        if "event" in fields:
            events.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return events


class Watched(list[dict[str, Any]]):
    """``opened`` counts how often the socket had to be opened; ``port`` is the client's of the one that is open."""

    opened = 0
    port: int


async def watched(url: str, execution: str, into: Watched | None = None, *, more: str = "") -> Watched:
    """What comes over the WebSocket until it ends."""
    messages = Watched() if into is None else into
    while not (messages and messages[-1]["event_type"] in ENDINGS):
        after = messages[-1]["id"] if messages else "0"
        path = f"ws{url[4:]}/ws/pipeline/{execution}?token=token-of-ann&from={after}{more}"
        try:
            async with connect(path) as socket:
                messages.opened, messages.port = messages.opened + 1, socket.local_address[1]
                async for text in socket:
                    messages.append(json.loads(text))
        except (OSError, ConnectionClosed, InvalidStatus):
            await asyncio.sleep(0.05)
    return messages


@contextmanager
def offline_model() -> Iterator[dict[str, str]]:
    """Gives what OpenAI's SDK has to know of it."""
    port = free_port()
    command = ["offline_model.py", "--port", str(port), "--tokens-per-second", "20", "--text", ANSWER]
    with subprocess.Popen([sys.executable, *command], cwd=EXAMPLES / "offline_model") as process:
        try:
            yield {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "none"}
        finally:
            process.kill()


async def test_the_pipeline_application(fresh_server: RunningServer, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    with (
        offline_model() as environment,
        application(
            "pipeline", "steps:steps", fresh_server, tmp_path, PIPELINE_EVENTS_DIR=str(files), **environment
        ) as (app, url),
    ):
        async with httpx.AsyncClient(base_url=url, timeout=patient(20)) as client, asyncio.timeout(patient(90)):
            await its_messages(client, url)
            await how_it_streams(client, url)
            await filters(client, url)
            await many_on_one_connection(client, url)
            await a_person_answers(client, url)
            await what_is_wrong(client, url)
            await subscribers(app, client, files)
            await events_are_lost(fresh_server, client, url)
            await deaths(app, client, url)
            await an_answer_starts_anew(app, client, url)
            nothing_is_left_by_restarts(fresh_server)
            await its_page(url, tmp_path)


async def its_messages(client: httpx.AsyncClient, url: str) -> None:
    begun = await begin(client, {"name": "Streaming Pipeline", "streaming": STREAMING, "steps": STEPS})
    assert begun.status_code == 202, begun.text
    execution = begun.json()["execution_id"]
    assert begun.json() == {
        "execution_id": execution,
        "ws": f"/ws/pipeline/{execution}",
        "stream": f"/stream/pipeline/{execution}",
    }
    messages = await watched(url, execution)
    assert all(
        message.keys() == {"event_type", "execution_id", "step_id", "timestamp", "data", "id"} for message in messages
    )
    types = [message["event_type"] for message in messages]
    assert types[0] == "pipeline_start"
    assert types[-1] == "pipeline_complete"
    assert set(types) == TYPES - {"step_error", "pipeline_error"}
    done = next(message for message in messages if message["event_type"] == "step_complete")
    assert done["step_id"] == "count"
    assert done["data"]["output"] == {"words": 10, "characters": 30}
    assert isinstance(done["data"]["duration_ms"], int)
    progress = [message["data"] for message in messages if "progress" in message["data"]]
    assert progress == [{"progress": n / 10, "message": f"Processing item {n - 1}"} for n in range(1, 11)]
    tokens = [message for message in messages if "token" in message["data"]]
    assert len(tokens) > 3
    assert {message["event_type"] for message in tokens} == {"step_progress"}
    assert "".join(message["data"]["token"] for message in tokens) == ANSWER
    output = messages[-1]["data"]["output"]
    assert (output["text"], output["finish_reason"]) == (ANSWER, "stop")

    response = await client.get(begun.json()["stream"], headers=ANN)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = await sse(client, begun.json()["stream"])
    assert [name for _, name, _ in events] == types
    assert ("step_complete", {**done["data"], "step_id": "count"}) in [(name, data) for _, name, data in events]
    ids = [id_ for id_, _, _ in events]
    assert [name for _, name, _ in await sse(client, begun.json()["stream"], **{"Last-Event-ID": ids[4]})] == types[5:]
    again = await client.get(begun.json()["stream"], headers=ANN | {"Last-Event-ID": ids[-1]})
    assert again.status_code == 204

    blocking = await begin(client, {"name": "p", "steps": STEPS})
    assert (blocking.status_code, blocking.json().keys()) == (200, {"execution_id", "output"})
    assert blocking.json()["output"] == output
    assert [name for _, name, _ in await sse(client, f"/stream/pipeline/{blocking.json()['execution_id']}")] == [
        "pipeline_start",
        "pipeline_complete",
    ]

    failing = await begin(client, {"name": "p", "streaming": STREAMING, "steps": ["count", "fail"]})
    broken = await watched(url, failing.json()["execution_id"])
    assert [message["event_type"] for message in broken[-2:]] == ["step_error", "pipeline_error"]
    assert broken[-2]["step_id"] == "fail"
    assert broken[-1]["data"]["partial"] is True
    assert "always fails" in broken[-1]["data"]["error"]
    blocking = await begin(client, {"name": "p", "steps": ["fail"]})
    assert blocking.status_code == 500
    assert "always fails" in blocking.json()["detail"]


async def how_it_streams(client: httpx.AsyncClient, url: str) -> None:
    """``emit_progress`` leaves out progress; ``flush_interval_ms`` collects events, up to ``buffer_size`` of them."""

    async def streamed(**streaming: Any) -> Watched:
        steps = [{"name": "count", "run": "count", "options": {"seconds": 0.01}}]
        begun = await begin(client, {"name": "p", "streaming": {**STREAMING, **streaming}, "steps": steps})
        return await watched(url, begun.json()["execution_id"])

    def moments(messages: Watched) -> int:
        """When progress was appended: ids begin with the time, in milliseconds."""
        ids = [message["id"].split(":")[-1] for message in messages if message["event_type"] == "step_progress"]
        return len({id_.partition("-")[0] for id_ in ids})

    silent, collected, one_by_one = await asyncio.gather(
        streamed(emit_progress=False),
        streamed(flush_interval_ms=5000),
        streamed(flush_interval_ms=5000, buffer_size=1),
    )
    assert "step_progress" not in {message["event_type"] for message in silent}
    assert silent[-1]["data"] == collected[-1]["data"] == one_by_one[-1]["data"]
    assert moments(collected) <= 4
    assert moments(one_by_one) >= 8
    wrong = await begin(client, {"name": "p", "streaming": {"enabled": True, "buffer_size": 0}, "steps": STEPS})
    assert wrong.status_code == 422
    assert "buffer_size" in wrong.text


async def filters(client: httpx.AsyncClient, url: str) -> None:
    """By type and by step, on both kinds of streams; the ending is always told."""
    begun = (await begin(client, {"name": "p", "streaming": STREAMING, "steps": STEPS})).json()
    execution, stream = begun["execution_id"], begun["stream"]
    some = ["step_start", "step_complete", "step_start", "step_complete", "pipeline_complete"]
    told = await watched(url, execution, more="&types=step_start,step_complete")
    assert [message["event_type"] for message in told] == some
    assert [name for _, name, _ in await sse(client, f"{stream}?types=step_start,step_complete")] == some
    of_answer = await watched(url, execution, more="&step=answer")
    assert {message["step_id"] for message in of_answer} == {"answer", None}
    assert [m["event_type"] for m in of_answer if m["step_id"] is None][-1] == "pipeline_complete"
    wrong = await client.get(f"{stream}?types=step_begin", headers=ANN)
    assert wrong.status_code == 422
    assert "step_begin" in wrong.text

    compressed: list[bool] = []
    path = f"ws{url[4:]}{begun['ws']}?token=token-of-ann&compress=true"
    async with connect(path) as socket:
        (deflate,) = socket.protocol.extensions
        decode = deflate.decode

        def noted(frame: Any, **options: Any) -> Any:
            compressed.append(frame.rsv1)
            return decode(frame, **options)

        deflate.decode = noted  # type: ignore[method-assign]
        texts = [text async for text in socket]
    assert json.loads(texts[-1])["event_type"] == "pipeline_complete"
    assert any(compressed)


async def many_on_one_connection(client: httpx.AsyncClient, url: str) -> None:
    steps = [{"name": "count", "run": "count"}]
    begun = [
        (await begin(client, {"name": "p", "streaming": STREAMING, "steps": steps})).json()["execution_id"]
        for _ in range(3)
    ]
    running = {
        "name": "p",
        "streaming": STREAMING,
        "steps": [{"name": "r", "run": "ask", "options": {"question": "?"}}],
    }
    left = (await begin(client, running)).json()["execution_id"]
    async with connect(f"ws{url[4:]}/ws/pipelines?token=token-of-ann") as socket:
        for execution in (left, *begun):
            await socket.send(json.dumps({"action": "subscribe", "execution_id": execution}))
        told: dict[str, list[str]] = {execution: [] for execution in begun}
        while not all(types and types[-1] in ENDINGS for types in told.values()):
            message = json.loads(await socket.recv())
            if message["execution_id"] != left:
                told[message["execution_id"]].append(message["event_type"])
        for types in told.values():
            assert types == [message["event_type"] for message in await watched(url, begun[0])]
        await socket.send(json.dumps({"action": "unsubscribe", "execution_id": left}))
        for wrong, code in (
            ({"action": "subscribe", "execution_id": "nowhere"}, "execution_unknown"),
            ({"action": "dance"}, "invalid_input"),
            ("no json", "invalid_input"),
        ):
            await socket.send(wrong if isinstance(wrong, str) else json.dumps(wrong))
            while (message := json.loads(await socket.recv()))["event_type"] != "stream_error":
                pass
            assert message["data"]["code"] == code
    async with connect(f"ws{url[4:]}/ws/pipelines?token=token-of-bob") as socket:
        await socket.send(json.dumps({"action": "subscribe", "execution_id": begun[0]}))
        refused = json.loads(await socket.recv())
        assert (refused["execution_id"], refused["data"]["code"]) == (begun[0], "execution_unknown")


async def a_person_answers(client: httpx.AsyncClient, url: str) -> None:
    ask = {"name": "review", "run": "ask", "options": {"question": "Publish?"}}
    begun = (await begin(client, {"name": "p", "streaming": STREAMING, "steps": [ask]})).json()["execution_id"]
    async with connect(f"ws{url[4:]}/ws/pipeline/{begun}?token=token-of-ann") as socket:
        async for text in socket:
            message = json.loads(text)
            if message["data"].get("waiting"):
                given = {"ask": message["data"]["ask"], "answer": "yes"}
                path = f"/pipelines/{begun}/answer"
                assert (await client.post(path, json=given, headers=BOB)).status_code == 404
                assert (await client.post(path, json=given, headers=ANN)).status_code == 202
    assert message["data"]["output"] == {"answer": "yes"}


async def what_is_wrong(client: httpx.AsyncClient, url: str) -> None:
    assert (await client.get("/")).headers["content-type"].startswith("text/html")
    unknown = await begin(client, {"name": "p", "steps": [{"name": "a", "run": "juggle"}]})
    assert unknown.status_code == 422
    assert "juggle" in unknown.text
    for pipeline in ({}, {"name": "p", "steps": [{"name": "a"}]}, {"name": "p", "steps": "count"}):
        assert (await begin(client, pipeline)).status_code == 422
    assert (await begin(client, {"name": "p", "steps": []})).status_code == 422
    large = await client.post("/pipelines/run", content=b"x" * 10_000_000, headers=ANN)
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    assert (await client.post("/pipelines/run", json={"pipeline": {}})).status_code == 401
    own = (await begin(client, {"name": "p", "streaming": STREAMING, "steps": STEPS})).json()["execution_id"]
    for headers, path, status in (({}, own, 401), (BOB, own, 404), (ANN, "nowhere", 404), (ANN, "a.b", 400)):
        assert (await client.get(f"/stream/pipeline/{path}", headers=headers)).status_code == status
    async with connect(f"ws{url[4:]}/ws/pipeline/{own}?token=token-of-bob") as socket:
        assert "execution_unknown" in str(await socket.recv())
        await socket.wait_closed()
        assert socket.close_code == 4404
    with pytest.raises(InvalidStatus, match="403"):
        async with connect(f"ws{url[4:]}/ws/pipeline/{own}"):
            pass


async def events_are_lost(server: RunningServer, client: httpx.AsyncClient, url: str) -> None:
    """A viewer who comes when the first events have been trimmed is told so, before what is left."""
    begun = (await begin(client, {"name": "p", "streaming": STREAMING, "steps": STEPS})).json()
    whole = await watched(url, begun["execution_id"])
    with Redis.from_url(server.url) as redis:
        redis.xtrim(f"tr:{{{begun['execution_id']}}}:log", maxlen=3, approximate=False)
    rest = await watched(url, begun["execution_id"])
    assert (rest[0]["event_type"], rest[0]["data"]) == ("stream_gap", {"partial": True, "reason": "trimmed"})
    assert [message["id"] for message in rest[1:]] == [message["id"] for message in whole[-len(rest[1:]) :]]
    assert (await sse(client, begun["stream"]))[0][1:] == ("stream_gap", {"partial": True, "reason": "trimmed"})


async def subscribers(app: Application, client: httpx.AsyncClient, files: Path) -> None:
    """Both instances tell of all executions; the one that raises is counted, and the others have seen all."""
    begun = [(await begin(client, {"name": "p", "steps": ["count"]})).json()["execution_id"] for _ in range(2)]

    async def seen() -> list[dict[str, Any]]:
        return [(await client.get(f"{each}/subscribers", headers=ANN)).json() for each in app.instances]

    async def alike() -> bool:
        first, second = await seen()
        executions = first["metrics"]["executions"]
        return bool(first == second and executions["under_way"] == 1 and executions["completed"] >= 10)

    await eventually(alike)
    (told, _) = await seen()
    metrics = told["metrics"]
    ended = {status: metrics["executions"][status] for status in ("completed", "failed", "cancelled", "timed_out")}
    assert ended["failed"] == 2
    assert metrics["success_rate"] == pytest.approx(ended["completed"] / sum(ended.values()))
    assert metrics["completion_rate"] == pytest.approx(sum(ended.values()) / (sum(ended.values()) + 1))
    assert metrics["seconds_to_completion"]["count"] == ended["completed"]
    assert metrics["seconds_waiting"]["count"] == sum(ended.values()) + 1
    assert 0 <= metrics["seconds_waiting"]["mean"] <= metrics["seconds_to_completion"]["longest"]
    assert metrics["steps"]["count"]["count"] > 3
    assert told["callback"]["execution.completed"] == ended["completed"]
    ((name, failures),) = told["failures"].items()
    assert "broken" in name
    assert failures == ended["completed"]

    async def written() -> bool:
        """Each event is in one of the files, once."""
        lines = [json.loads(line) for file in files.glob("*.jsonl") for line in file.read_text().splitlines()]
        places = [(line["execution_id"], line["id"]) for line in lines]
        ends = {line["execution_id"] for line in lines if line["type"] == "execution.completed"}
        return set(begun) <= ends and len(set(places)) == len(places)

    await eventually(written)


async def deaths(app: Application, client: httpx.AsyncClient, url: str) -> None:
    """The serving instance and the worker are killed; a viewer misses nothing, and sees nothing twice."""
    steps = [{"name": "count", "run": "count", "options": {"seconds": 0.2}}]
    begun = (await begin(client, {"name": "p", "streaming": STREAMING, "steps": steps})).json()["execution_id"]
    viewer = Watched()
    watching = asyncio.create_task(watched(url, begun, viewer))

    async def is_watched() -> bool:
        return bool(viewer)

    await eventually(is_watched)
    serving = app.serving(viewer.port)
    other = app.instances[1 - serving]
    async with connect(f"ws{other[4:]}/ws/pipeline/{begun}?token=token-of-ann") as socket:
        while json.loads(await socket.recv())["event_type"] != "checkpoint_saved":
            pass
        app.kill_instance(serving)
        app.kill_workers()
        app.new_worker()
        unbroken = [json.loads(text)["event_type"] async for text in socket]
    messages = await watching
    # It was cut off: the instance that was killed was its own.
    assert messages.opened == 2
    assert messages[-1]["event_type"] == "pipeline_complete"
    assert messages[-1]["data"]["output"] == {"words": 10, "characters": 30}
    types = [message["event_type"] for message in messages]
    assert types[-len(unbroken) :] == unbroken
    assert [m["data"]["attempt"] for m in messages if m["event_type"] == "pipeline_start"] == [1, 2]
    progress = [message["data"]["progress"] for message in messages if "progress" in message["data"]]
    assert all(later - earlier < 0.11 for earlier, later in pairwise(progress))
    ids = [message["id"] for message in messages]
    assert len(set(ids)) == len(ids)
    assert await watched(url, begun) == messages
    app.start_instance(serving)
    await asyncio.to_thread(app.await_ready)


async def an_answer_starts_anew(app: Application, client: httpx.AsyncClient, url: str) -> None:
    """No viewer shows half of two answers: one that is begun again by another worker says so first."""
    begun = (await begin(client, {"name": "p", "streaming": STREAMING, "steps": ["answer"]})).json()["execution_id"]
    async with connect(f"ws{url[4:]}/ws/pipeline/{begun}?token=token-of-ann") as socket:
        while "token" not in json.loads(await socket.recv())["data"]:
            pass
    app.kill_workers()
    app.new_worker()
    messages = [message["data"] for message in await watched(url, begun)]
    (reset,) = [place for place, data in enumerate(messages) if data.get("reset")]
    before, after = ("".join(data.get("token", "") for data in part) for part in (messages[:reset], messages[reset:]))
    assert ANSWER.startswith(before)
    assert before != ""
    assert after == messages[-1]["output"]["text"] == ANSWER


def nothing_is_left_by_restarts(server: RunningServer) -> None:
    """One instance has been killed and started again: what is left is the group that writes the files."""
    with Redis.from_url(server.url) as redis:
        assert [group["name"] for group in redis.xinfo_groups("tr:activity")] == [b"pipeline-file"]


async def its_page(url: str, directory: Path) -> None:
    """In a browser: the progress of a step, a question that is answered there, tokens, and what cannot be run."""
    async with page(f"{url}/", directory) as browser:
        await browser.evaluate("document.getElementById('run').click()")
        await browser.until("!document.getElementById('ask').hidden")
        assert await browser.evaluate("document.querySelector('#step-count progress').value") == 1
        assert await browser.evaluate("document.getElementById('question').textContent") == "Publish?"
        await browser.evaluate("document.getElementById('answer').value = 'yes'")
        await browser.evaluate("document.querySelector('#ask button').click()")
        await browser.until("document.getElementById('status').textContent === 'pipeline_complete'")
        assert '"answer":"yes"' in await browser.evaluate("document.getElementById('events').lastChild.textContent")
        pipeline = json.dumps({"name": "p", "streaming": {"enabled": True}, "steps": ["answer"]})
        await browser.evaluate(f"document.getElementById('pipeline').value = {json.dumps(pipeline)}")
        await browser.evaluate("document.getElementById('run').click()")
        await browser.until("document.getElementById('status').textContent === 'pipeline_complete'")
        assert await browser.evaluate("document.querySelector('#step-answer p').textContent") == ANSWER
        unknown = json.dumps({"name": "p", "steps": ["juggle"]})
        await browser.evaluate(f"document.getElementById('pipeline').value = {json.dumps(unknown)}")
        await browser.evaluate("document.getElementById('run').click()")
        await browser.until("document.getElementById('status').textContent.includes('juggle')")
        assert browser.errors == []
