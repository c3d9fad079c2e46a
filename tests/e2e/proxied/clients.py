"""Clients that others wrote, each resuming as it does: what each of them got, as (id, type, data)."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest
from httpx_sse import SSEError, aconnect_sse
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

from tests.e2e.sse_frames import FrameReader

Got = list[tuple[str, str, Any]]
Client = Callable[[str, str, Path], Coroutine[Any, Any, Got]]

NODE: Final = Path(__file__).parent / "node"
AGAIN_SECONDS: Final = 0.05


def install_node_clients(directory: Path) -> Path:
    """The locked packages, from the registry, beside copies of the programs that use them."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        _not_here("node and npm are not on the PATH; install them with: apt install nodejs npm")
    for file in NODE.iterdir():
        if file.is_file():
            shutil.copy(file, directory)
    done = subprocess.run(
        [str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        _not_here(f"npm ci failed: {done.stderr[-2000:]}")
    return directory


def _not_here(message: str) -> None:
    if os.environ.get("TAILRACE_CI_REQUIRE") == "1":
        pytest.fail(f"CI requires every tool: {message}")
    pytest.skip(message)


async def npm_eventsource(url: str, run: str, node: Path) -> Got:
    return await _node(node, "eventsource.mjs", f"{url}/v1/executions/{run}/events?events=message")


async def npm_ws(url: str, run: str, node: Path) -> Got:
    return await _node(node, "websocket.mjs", f"{url.replace('http', 'ws')}/v1/ws", run)


async def _node(node: Path, program: str, *arguments: str) -> Got:
    async with _process("node", str(node / program), *arguments) as process:
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()[-2000:]
    return [(event["id"], event["type"], event["data"]) for event in map(orjson.loads, output.splitlines())]


async def curl(url: str, run: str, node: Path) -> Got:
    """A shell's loop around curl: come back with the last id until told that nothing follows."""
    del node
    got: Got = []
    while True:
        last = ["-H", f"Last-Event-ID: {got[-1][0]}"] if got else []
        command = ["-sN", "-w", "\n\n%{http_code}", *last, f"{url}/v1/executions/{run}/events"]
        async with _process("curl", *command) as process:
            output, _ = await process.communicate()
        body, _, status = output.rpartition(b"\n\n")
        if status == b"204":
            return got
        if status != b"200":
            await asyncio.sleep(AGAIN_SECONDS)
            continue
        reader = FrameReader()
        for frame in reader.feed(body):
            assert frame.name != "stream.gap"
            if frame.id is not None:
                got.append((frame.id, frame.name, frame.payload["data"]))


async def httpx_sse(url: str, run: str, node: Path) -> Got:
    del node
    got: Got = []
    async with httpx.AsyncClient(timeout=httpx.Timeout(5.0, read=30.0)) as client:
        while True:
            headers = {"Last-Event-ID": got[-1][0]} if got else {}
            try:
                async with aconnect_sse(
                    client, "GET", f"{url}/v1/executions/{run}/events", headers=headers
                ) as connection:
                    if connection.response.status_code == httpx.codes.NO_CONTENT:
                        return got
                    async for event in connection.aiter_sse():
                        assert event.event != "stream.gap"
                        # It also gives out what a browser would not dispatch: a `retry:` or an `id:` by itself.
                        if event.data and not event.event.startswith("stream."):
                            got.append((event.id, event.event, event.json()["data"]))
            except (httpx.TransportError, SSEError):
                await asyncio.sleep(AGAIN_SECONDS)


async def python_websockets(url: str, run: str, node: Path) -> Got:
    del node
    got: Got = []
    cursor: str | None = None
    while True:
        try:
            async with connect(
                f"{url.replace('http', 'ws')}/v1/ws", subprotocols=[Subprotocol("tailrace.v1.json")]
            ) as socket:
                wish = {"op": "subscribe", "id": 1, "execution": run}
                await socket.send(orjson.dumps(wish if cursor is None else {**wish, "from": cursor}).decode())
                async for frame in socket:
                    for message in orjson.loads(frame):
                        assert message["op"] not in {"gap", "error"}, message
                        if message["op"] == "event":
                            cursor = message["id"]
                            got.append((message["id"], message["type"], message["data"]))
                        elif message["op"] == "end":
                            return got
        except (ConnectionClosed, InvalidHandshake, InvalidMessage, OSError):
            pass
        await asyncio.sleep(AGAIN_SECONDS)


CLIENTS: Final[dict[str, Client]] = {
    "npm eventsource": npm_eventsource,
    "httpx-sse": httpx_sse,
    "curl": curl,
    "python-websockets": python_websockets,
    "npm ws": npm_ws,
}


@asynccontextmanager
async def _process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
