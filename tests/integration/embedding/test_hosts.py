"""One suite that each server passes which an application with the gateway in it may run on. Real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
import websockets

from tailrace import Bus, BusSettings, open_bus
from tests.integration.embedding.hosts import DRAIN_SECONDS, HOSTS, KEY, HostProcess, socket_options
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

AUTHORIZED: Final = {"Authorization": f"Bearer {KEY}"}
MIB: Final = 1024 * 1024
# uvicorn looks every tenth of a second whether all have gone, and ends what is left; gunicorn every second.
BEYOND_DRAIN_SECONDS: Final = 4.0


class Running:
    """The host of this round, started when first asked for, and again after a test has ended it."""

    def __init__(self, name: str, folder: Path, url: str) -> None:
        self.name = name
        self.prefix = f"t{uuid4().hex[:8]}"
        self.server_url = url
        self._folder = folder
        self._process: HostProcess | None = None

    def process(self) -> HostProcess:
        if self._process is None or not self._process.is_alive:
            self.close()
            self._process = HostProcess(HOSTS[self.name], self._folder, self.server_url, self.prefix)
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.__exit__()
        self._process = None


@pytest.fixture(scope="module", params=list(HOSTS))
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server_url: str
) -> Iterator[Running]:
    running = Running(request.param, tmp_path_factory.mktemp("host"), server_url)
    yield running
    running.close()


@pytest.fixture
def host(running: Running) -> HostProcess:
    return running.process()


@pytest.fixture
async def bus(running: Running) -> AsyncGenerator[Bus, None]:
    async with await open_bus(running.server_url, settings=BusSettings(prefix=running.prefix)) as opened:
        yield opened


@pytest.fixture
async def client(host: HostProcess) -> AsyncGenerator[httpx.AsyncClient, None]:
    http2 = host.host.http2
    async with httpx.AsyncClient(
        base_url=host.url, timeout=patient(30), headers=AUTHORIZED, http1=not http2, http2=http2
    ) as asking:
        yield asking


@pytest.fixture
def run() -> str:
    return f"e{uuid4().hex[:8]}"


async def publish(bus: Bus, run: str, count: int, *, end: bool = True, size_bytes: int = 1) -> None:
    padding = "x" * size_bytes
    async with aclosing(bus.publisher(run)) as publisher:
        for number in range(count):
            await publisher.emit("custom.count", {"number": number, "padding": padding})
        if end:
            await publisher.emit("execution.completed", {"result": count})


def ids_of(body: str) -> list[str]:
    return re.findall(r"^id: (.*)$", body, re.MULTILINE)


def socket_url(host: HostProcess, run: str) -> str:
    return f"{host.url.replace('http', 'ws', 1)}/v1/executions/{run}/ws"


def held_open(host: HostProcess, path: str, *headers: str, receive_bytes: int | None = None) -> socket.socket:
    """A connection that has asked, and of which nothing is read."""
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(patient(10))
    connection.connect(("127.0.0.1", host.port))
    lines = [f"GET {host.host.path}/live{path} HTTP/1.1", "Host: 127.0.0.1", *socket_options(headers), "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


async def test_a_host_streams_resumes_and_tells_a_gap(
    host: HostProcess, bus: Bus, client: httpx.AsyncClient, run: str
) -> None:
    await publish(bus, run, 300)
    body = (await client.get(f"/v1/executions/{run}/events", headers={"Origin": "https://app.example"})).text
    ids = ids_of(body)
    assert (len(ids), body.count("event: custom.count")) == (301, 300)
    rest = (await client.get(f"/v1/executions/{run}/events", headers={"Last-Event-ID": ids[99]})).text
    assert ids_of(rest) == ids[100:]
    links = (await client.get(f"/v1/executions/{run}")).json()["links"]
    assert links["events"] == f"{host.host.root_path}{host.host.path}/live/v1/executions/{run}/events"
    async with websockets.connect(socket_url(host, run), additional_headers=AUTHORIZED) as following:
        frames = [each async for batch in following for each in json.loads(batch)]
    assert sum(frame.get("type") == "custom.count" for frame in frames) == 300
    assert following.close_code == 1000
    # Of another one: of the first there is more in memory than in the log.
    other = f"{run}-trimmed"
    await publish(bus, other, 20)
    await bus.commands.command("XTRIM", bus.keys.log(other), "MAXLEN", 5)
    trimmed = (await client.get(f"/v1/executions/{other}/events", headers={"Last-Event-ID": "1-1"})).text
    assert trimmed.count("event: stream.gap") == 1
    assert len(ids_of(trimmed)) == 5


async def test_a_host_streams_what_comes_as_it_comes(bus: Bus, client: httpx.AsyncClient, run: str) -> None:
    await publish(bus, run, 1, end=False)
    async with client.stream("GET", f"/v1/executions/{run}/events") as answer:
        assert answer.headers.get("content-encoding", "identity") == "identity"
        lines = answer.aiter_lines()
        await until(lines, "event: stream.caught_up")
        for _ in range(5):
            await publish(bus, run, 1, end=False)
            await until(lines, "event: custom.count")
        await publish(bus, run, 0)
        await until(lines, "event: execution.completed")


async def until(lines: Any, wanted: str) -> None:
    async with asyncio.timeout(patient(10)):
        async for line in lines:
            if line == wanted:
                return
    raise AssertionError(f"ended without {wanted!r}")


async def test_a_host_lets_in_who_has_a_key_and_nobody_else(
    host: HostProcess, bus: Bus, client: httpx.AsyncClient, run: str
) -> None:
    await publish(bus, run, 1)
    assert (await client.get(f"/v1/executions/{run}/events")).status_code == 200
    for wrong in ({"Authorization": ""}, {"Authorization": f"Bearer {KEY}x"}):
        refused = await client.get(f"/v1/executions/{run}/events", headers=wrong)
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
    with pytest.raises(websockets.InvalidStatus) as rejected:
        async with websockets.connect(socket_url(host, run)):
            pass
    # Where the server knows no answer of the application's own to a handshake, it is its plain refusal.
    assert rejected.value.response.status_code in {401, 403}


async def test_a_host_serves_on_beside_clients_that_stand_still_flood_or_close_by_half(
    host: HostProcess, bus: Bus, client: httpx.AsyncClient, run: str
) -> None:
    large = f"{run}-large"
    await publish(bus, run, 50, end=False)
    await publish(bus, large, 300, size_bytes=32 * 1024)
    path = f"/v1/executions/{large}/events"
    before = host.resident_bytes()
    with contextlib.ExitStack() as hostile:
        for _ in range(8):
            hostile.enter_context(held_open(host, path, receive_bytes=4096))
        for _ in range(8):
            halved = hostile.enter_context(held_open(host, f"/v1/executions/{run}/events"))
            halved.shutdown(socket.SHUT_WR)
        upgrade = [
            *("Upgrade: websocket", "Connection: Upgrade"),
            *("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ]
        flooding = hostile.enter_context(held_open(host, f"/v1/executions/{run}/ws", *upgrade))
        flood = asyncio.create_task(asyncio.to_thread(send_frames, flooding))
        began = time.monotonic()
        for _ in range(5):
            assert (await client.get(f"/v1/executions/{run}")).status_code == 200
        took = time.monotonic() - began
        whole = (await client.get(path)).text
        await flood
        grown = host.resident_bytes() - before
    assert len(ids_of(whole)) == 301
    # Without bounds, eight times the ten megabytes of the log would wait for those who do not read.
    assert grown < 48 * MIB
    assert took < stretched(5)


def send_frames(connection: socket.socket) -> None:
    """As many frames as a host takes, up to 30,000; until it closes."""
    frame = b"\x81\x82\0\0\0\0{}"
    with contextlib.suppress(OSError):
        for _ in range(60):
            connection.sendall(frame * 500)


async def test_a_host_that_is_told_to_stop_sends_its_viewers_on_and_is_gone_within_the_drain_time(
    host: HostProcess, bus: Bus, client: httpx.AsyncClient, run: str
) -> None:
    large = f"{run}-large"
    await publish(bus, run, 3, end=False)
    await publish(bus, large, 100, size_bytes=64 * 1024)
    watching = asyncio.Semaphore(0)

    async def watch() -> str:
        body = ""
        async with client.stream("GET", f"/v1/executions/{run}/events") as answer:
            async for line in answer.aiter_lines():
                body += f"{line}\n"
                if line == "event: stream.caught_up":
                    watching.release()
        return body

    async def follow() -> tuple[list[Any], int | None]:
        frames = []
        async with websockets.connect(socket_url(host, run), additional_headers=AUTHORIZED) as following:
            with contextlib.suppress(websockets.ConnectionClosed):
                async for batch in following:
                    frames.extend(json.loads(batch))
                    if frames[-1].get("op") == "caught_up":
                        watching.release()
        return frames, following.close_code

    with contextlib.ExitStack() as hostile:
        hostile.enter_context(held_open(host, f"/v1/executions/{large}/events", receive_bytes=4096))
        hostile.enter_context(socket.create_connection(("127.0.0.1", host.port)))
        bodies = [asyncio.create_task(watch()) for _ in range(10)]
        sockets = [asyncio.create_task(follow()) for _ in range(5)]
        async with asyncio.timeout(patient(20)):
            for _ in range(15):
                await watching.acquire()
        told = time.monotonic()
        host.terminate()
        async with asyncio.timeout(patient(20)):
            streams, followed = await asyncio.gather(*bodies), await asyncio.gather(*sockets)
        await asyncio.to_thread(host.wait)
        took = time.monotonic() - told
    assert ["event: stream.reconnect" in body for body in streams] == [True] * 10
    assert [frames[-1].get("op") for frames, _ in followed] == ["reconnect"] * 5
    assert {code for _, code in followed} == {1012}
    assert took < stretched(DRAIN_SECONDS + BEYOND_DRAIN_SECONDS), host.log
    # A server may complain of itself; nothing of ours fails.
    assert "tailrace/gateway" not in host.log, host.log


async def test_a_stock_uvicorn_with_500_viewers_is_gone_within_the_drain_time_and_has_sent_all_of_them_on(
    tmp_path: Path, server_url: str
) -> None:
    prefix = f"t{uuid4().hex[:8]}"

    async def watch(host: HostProcess) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
        lines = [f"GET /live/v1/executions/{prefix}/events HTTP/1.1", "Host: 127.0.0.1", *socket_options(), "", ""]
        writer.write("\r\n".join(lines).encode())
        body = await reader.readuntil(b"event: stream.caught_up\n")
        watching.release()
        body += await reader.read()
        writer.close()
        return body

    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus:
        await publish(bus, prefix, 1, end=False)
        watching = asyncio.Semaphore(0)
        with HostProcess(HOSTS["uvicorn"], tmp_path / "host", server_url, prefix) as host:
            viewers = [asyncio.create_task(watch(host)) for _ in range(500)]
            async with asyncio.timeout(patient(30)):
                for _ in viewers:
                    await watching.acquire()
                told = time.monotonic()
                host.terminate()
                bodies = await asyncio.gather(*viewers)
            await asyncio.to_thread(host.wait)
            took = time.monotonic() - told
    assert sum(b"event: stream.reconnect" in body and b"\nretry: " in body for body in bodies) == 500
    assert took < stretched(DRAIN_SECONDS + BEYOND_DRAIN_SECONDS)
