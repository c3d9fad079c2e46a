"""A server that speaks the streaming format of a provider: one given answer a request, byte for byte."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
# The answer that promises more than it sends, as where a provider dies: no SDK may take it for whole.
HEAD_OF_MORE: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99999\r\n\r\n"


def sse(data: Any, event: str | None = None) -> bytes:
    name = b"" if event is None else f"event: {event}\n".encode()
    return name + b"data: " + json.dumps(data).encode() + b"\n\n"


def turned_away(status: int, body: Any, *headers: str) -> bytes:
    raw = json.dumps(body).encode()
    lines = (f"HTTP/1.1 {status} No", "Content-Type: application/json", f"Content-Length: {len(raw)}", *headers)
    return "".join(f"{line}\r\n" for line in (*lines, "Connection: close", "")).encode() + raw


@dataclass(slots=True)
class Provider:
    """``asked_at`` has the time of each request; ``closed`` is set when a client has closed one that hangs."""

    url: str = ""
    asked_at: list[float] = field(default_factory=list)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def provider(*answers: list[bytes], hangs: bool = False, stalls: bool = False) -> AsyncGenerator[Provider, None]:
    """With ``hangs``, requests beyond the answers, and every answer's end, hang until the client goes.

    With ``stalls``, the end of all answers but the last does.
    """
    left, serving = list(answers), Provider()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = json.loads(await reader.readexactly(length))
        serving.asked_at.append(time.monotonic())
        serving.requests.append((head.split()[1].decode(), body))
        if left or not hangs:
            writer.write(b"".join(left.pop(0)))
            await writer.drain()
        if (hangs and not left) or (stalls and left):
            await reader.read()
            serving.closed.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        serving.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield serving
