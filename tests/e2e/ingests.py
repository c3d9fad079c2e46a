"""Clients of examples/ingest, and the server that it reads from."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.e2e.application import EXAMPLES
from tests.integration.cli.processes import wait_until
from tests.servers import free_port


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


class Ingest(list[Event]):
    """What has come of it. ``opened`` counts how often it was asked for; ``port`` is the client's of the stream."""

    opened = 0
    port: int
    id: str

    async def read(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Ingest:
        """Until ``complete``; where the stream is cut it comes back with the id of the last event."""
        while not (self and self[-1].name == "complete"):
            headers = {"Last-Event-ID": self[-1].id or ""} if self else {}
            try:
                async with client.stream("POST", "/ingest/stream", json=body, headers=headers) as response:
                    if response.status_code in {502, 503}:
                        continue
                    assert response.status_code == 200, await response.aread()
                    self.id = response.headers["x-ingest-id"]
                    self.port = response.extensions["network_stream"].get_extra_info("client_addr")[1]
                    self.opened += 1
                    async for event in events_of(response):
                        self.append(event)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        return self

    @property
    def steps(self) -> list[str]:
        return [event.data["step"] for event in self if event.name == "progress"]

    @property
    def complete(self) -> dict[str, Any]:
        """The one, and the last."""
        assert [event.name for event in self] == ["progress"] * (len(self) - 1) + ["complete"]
        data: dict[str, Any] = self[-1].data
        assert data.keys() == {"type", "status", "message", "details"}
        return data


async def ingest(client: httpx.AsyncClient, url: str, **more: Any) -> Ingest:
    return await Ingest().read(client, {"url": url, **more})


class Watching(list[Event]):
    """An endless stream that is read in the background. ``port`` is the client's."""

    port: int


@asynccontextmanager
async def watching(client: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[Watching]:
    seen = Watching()
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].split(";")[0] == "text/event-stream"
        seen.port = response.extensions["network_stream"].get_extra_info("client_addr")[1]

        async def read() -> None:
            async for event in events_of(response):
                seen.append(event)

        reading = asyncio.create_task(read())
        try:
            yield seen
        finally:
            reading.cancel()
            await asyncio.wait([reading])


@contextmanager
def sources() -> Iterator[str]:
    port = free_port()
    with subprocess.Popen([sys.executable, "sources.py", "--port", str(port)], cwd=EXAMPLES / "ingest") as process:
        try:
            wait_until(lambda: _answers(f"http://127.0.0.1:{port}/asked"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@contextmanager
def held(source: str) -> Iterator[None]:
    """No text is given out by the source."""
    httpx.get(f"{source}/hold").raise_for_status()
    try:
        yield
    finally:
        httpx.get(f"{source}/release").raise_for_status()
