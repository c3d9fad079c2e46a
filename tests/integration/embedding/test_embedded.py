"""The gateway inside an application of one's own, served by a stock server."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tailrace import Bus, BusSettings, Gateway, GatewayNotRunningError, GatewaySettings, open_bus
from tailrace.gateway.app import create_app
from tests.patience import patient

pytestmark = pytest.mark.anyio

APPLICATION = """
import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from tailrace import Gateway, GatewaySettings

gateway = Gateway("{url}", settings=GatewaySettings(drain_seconds=0.5))
app = FastAPI(lifespan=gateway.lifespan)
app.include_router(gateway.router, prefix="/live")


@app.get("/own")
async def own() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        while not gateway.is_draining:
            yield "working\\n"
            await asyncio.sleep(0.05)
        yield "bye\\n"

    return StreamingResponse(lines())
"""
VIEWERS = 50


@contextmanager
def served(folder: Path, url: str, prefix: str, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``uvicorn main:app``, as anybody starts it."""
    (folder / "main.py").write_text(APPLICATION.format(url=url))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), *options],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "TAILRACE_PREFIX": prefix},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line)
            if "Uvicorn running on" in line:
                break
        else:
            pytest.fail("".join(lines))
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.communicate()


async def publish(bus: Bus, execution_id: str, count: int, *, end: bool) -> None:
    async with aclosing(bus.publisher(execution_id)) as publisher:
        for number in range(count):
            await publisher.emit("custom.count", {"number": number})
        if end:
            await publisher.emit("execution.completed", {"result": count})


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_a_stock_uvicorn_streams_resumes_and_links_under_the_prefix(
    tmp_path: Path, server_url: str, bus: Bus, prefix: str, http: str
) -> None:
    await publish(bus, "e", 200, end=True)
    with served(tmp_path, server_url, prefix, "--http", http) as (url, _):
        async with httpx.AsyncClient(base_url=f"{url}/live", timeout=patient(30)) as client:
            state = (await client.get("/v1/executions/e")).json()
            assert state["links"] == {"self": "/live/v1/executions/e", "events": "/live/v1/executions/e/events"}
            page = (await client.get("/v1/executions/e/events?limit=10")).json()
            assert page["links"]["next"].startswith("/live/v1/executions/e/events?after=")
            body = (await client.get("/v1/executions/e/events")).text
            ids = re.findall(r"^id: (.*)$", body, re.MULTILINE)
            assert len(ids) == 201
            rest = (await client.get("/v1/executions/e/events", headers={"Last-Event-ID": ids[99]})).text
            assert re.findall(r"^id: (.*)$", rest, re.MULTILINE) == ids[100:]
            several = (await client.get("/v1/stream?execution=e")).text
            assert several.count("event: custom.count") == 200
            assert (await client.get("/v1/executions/none")).json()["code"] == "execution_unknown"
        async with websockets.connect(f"{url.replace('http', 'ws', 1)}/live/v1/executions/e/ws") as socket_:
            assert "".join([str(frame) async for frame in socket_]).count('"custom.count"') == 200


async def test_a_stock_uvicorn_with_live_viewers_is_gone_within_the_drain_time(
    tmp_path: Path, server_url: str, bus: Bus, prefix: str
) -> None:
    await publish(bus, "live", 3, end=False)
    with served(tmp_path, server_url, prefix) as (url, process):
        async with httpx.AsyncClient(
            base_url=url, timeout=patient(60), limits=httpx.Limits(max_connections=VIEWERS + 2)
        ) as client:
            begun = asyncio.Semaphore(0)

            async def watch() -> str:
                body = ""
                async with client.stream("GET", "/live/v1/executions/live/events") as answer:
                    async for text in answer.aiter_text():
                        if "stream.caught_up" in text and "stream.caught_up" not in body:
                            begun.release()
                        body += text
                return body

            async def watch_own() -> str:
                async with client.stream("GET", "/own") as answer:
                    begun.release()
                    return "".join([text async for text in answer.aiter_text()])

            watching = [asyncio.create_task(watch()) for _ in range(VIEWERS)]
            own = asyncio.create_task(watch_own())
            for _ in range(VIEWERS + 1):
                await asyncio.wait_for(begun.acquire(), patient(30))
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            bodies = await asyncio.wait_for(asyncio.gather(*watching), patient(30))
            assert (await asyncio.wait_for(own, patient(30))).endswith("working\nbye\n")
        code = await asyncio.to_thread(process.wait, patient(30))
    assert all("event: stream.reconnect" in body for body in bodies)
    # uvicorn gives the signal that ended it to its caller.
    assert code in {0, -signal.SIGTERM}
    assert time.monotonic() - told < patient(10)


async def own_answer(_: Request, error: Exception) -> Response:
    return JSONResponse({"mine": str(error)}, 418)


def application(gateway: Gateway) -> FastAPI:
    """With layers that know nothing of streams."""
    app = FastAPI(exception_handlers={ValueError: own_answer})

    async def through(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["X-Mine"] = "1"
        return response

    @app.get("/mine")
    async def mine() -> None:
        raise ValueError("of the application")

    app.include_router(gateway.router)
    app.add_middleware(BaseHTTPMiddleware, dispatch=through)
    app.add_middleware(GZipMiddleware, minimum_size=1)
    app.add_middleware(CORSMiddleware, allow_origins=["https://app.example"])
    return app


@asynccontextmanager
async def called(
    app: FastAPI, client: tuple[str, int] = ("127.0.0.1", 1), root_path: str = ""
) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(app=app, client=client, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=patient(30)) as asking:
        yield asking


def settings() -> GatewaySettings:
    return GatewaySettings(drain_seconds=0)


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_streams_pass_the_middlewares_of_the_application_whole_and_uncompressed(bus: Bus, accept: str) -> None:
    await publish(bus, "e", 2000, end=True)
    gateway = Gateway(bus, settings=settings())
    async with gateway.running(), called(application(gateway)) as client:
        headers = {"Accept": accept, "Origin": "https://app.example"}
        answer = await client.get("/v1/executions/e/events", headers=headers)
        assert answer.status_code == 200
        assert answer.headers.get("content-encoding", "identity") == "identity"
        assert answer.headers["x-mine"] == "1"
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.text.count("custom.count") == 2000 * (2 if accept == "text/event-stream" else 1)


async def test_problems_are_answered_without_handlers_and_the_applications_own_are_left_alone(bus: Bus) -> None:
    gateway = Gateway(bus, settings=settings())
    app = application(gateway)
    before = dict(app.exception_handlers)
    async with gateway.running(), called(app) as client:
        unknown = await client.get("/v1/executions/none/events")
        invalid = await client.get("/v1/executions?limit=x")
        mine = await client.get("/mine")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "execution_unknown")
    assert (invalid.status_code, invalid.json()["code"]) == (422, "invalid_request")
    assert (mine.status_code, mine.json()) == (418, {"mine": "of the application"})
    assert app.exception_handlers == before


async def test_the_handlers_of_problems_serve_routes_of_the_applications_own(bus: Bus) -> None:
    gateway = Gateway(bus, settings=settings())
    app = FastAPI(exception_handlers=gateway.problem_handlers)

    @app.get("/own")
    async def own() -> None:
        await bus.delete("none")

    async with gateway.running(), called(app) as client:
        answer = await client.get("/own")
    assert (answer.status_code, answer.json()["code"]) == (404, "execution_unknown")


async def test_a_client_that_leaves_while_it_waits_is_no_error_of_the_application(bus: Bus) -> None:
    """A page with ``wait`` finds out in the middle of answering that nobody waits any more."""
    await publish(bus, "live", 1, end=False)
    gateway = Gateway(bus, settings=settings())
    asked = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if asked.is_set():
            return {"type": "http.disconnect"}
        asked.set()
        return {"type": "http.request", "body": b"", "more_body": False}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    head = await bus.log.latest("live")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/v1/executions/live/events",
        "raw_path": b"/v1/executions/live/events",
        "query_string": f"after={head}&wait=30".encode(),
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    app = FastAPI()
    app.include_router(gateway.router)
    async with gateway.running():
        await asyncio.wait_for(app(scope, receive, send), patient(20))


async def test_without_credentials_the_process_serves_nothing_to_other_machines(bus: Bus) -> None:
    app = create_app(bus, settings())
    async with app.router.lifespan_context(app), called(app, ("192.0.2.7", 1)) as client:
        refused = [await client.get(path, headers={"Host": "localhost"}) for path in ("/openapi.json", "/nothing")]
    assert [each.json()["code"] for each in refused] == ["local_clients_only"] * 2


async def test_without_credentials_clients_of_other_machines_are_refused(bus: Bus) -> None:
    gateway = Gateway(bus, settings=settings())
    async with gateway.running(), called(application(gateway), ("192.0.2.7", 1)) as client:
        refused = await client.get("/v1/executions", headers={"Host": "localhost"})
    assert (refused.status_code, refused.json()["code"]) == (403, "local_clients_only")


async def test_a_gateway_that_was_not_started_says_how_to(bus: Bus) -> None:
    gateway = Gateway(bus, settings=settings())
    async with called(application(gateway)) as client:
        with pytest.raises(GatewayNotRunningError, match=r"gateway\.running\(\)"):
            await client.get("/v1/executions")


async def test_it_can_be_started_again_and_entered_twice(bus: Bus) -> None:
    gateway = Gateway(bus, settings=settings())
    for _ in range(2):
        async with gateway.running(), gateway.running(), called(application(gateway)) as client:
            assert (await client.get("/v1/executions")).json()["items"] == []


async def test_a_mount_and_a_root_path_stand_in_links(bus: Bus) -> None:
    await publish(bus, "v1", 1, end=True)
    gateway = Gateway(bus, settings=settings(), routes={"executions", "events"})
    outer = FastAPI()
    outer.mount("/mounted", application(gateway))
    async with gateway.running(), called(outer, root_path="/proxied") as client:
        state = await client.get("/proxied/mounted/v1/executions/v1")
        absent = await client.get("/proxied/mounted/v1/activity")
    assert state.json()["links"]["events"] == "/proxied/mounted/v1/executions/v1/events"
    assert absent.status_code == 404


def test_under_a_test_client_streams_that_end_sockets_and_problems_are_as_anywhere(
    server_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        # It works with httpx, and says that it would rather have the next one.
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient
    monkeypatch.setenv("TAILRACE_PREFIX", prefix)
    gateway = Gateway(server_url, settings=GatewaySettings(drain_seconds=0.0))
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)

    @app.post("/begin/{run}")
    async def begin(run: str) -> None:
        async with gateway.bus.execution(run) as execution:
            await execution.emit("custom.count", 1)

    run = "run"
    for _ in range(2):
        # A second time, as test after test does.
        with TestClient(app, client=("127.0.0.1", 1), base_url="http://localhost") as client:
            run += "x"
            assert client.post(f"/begin/{run}").status_code == 200
            body = client.get(f"/v1/executions/{run}/events", headers={"Accept": "text/event-stream"}).text
            assert [line for line in body.split("\n") if line.startswith("event: ")][-2:] == [
                "event: execution.completed",
                "event: stream.end",
            ]
            with client.websocket_connect(f"/v1/executions/{run}/ws") as socket:
                ops = [said["op"] for _ in range(2) for said in socket.receive_json()]
            assert ops[0] == "subscribed"
            refused = client.get("/v1/executions/nobody/events", headers={"Accept": "text/event-stream"})
            assert (refused.status_code, refused.json()["code"]) == (404, "execution_unknown")
