"""A light HTTP client for streams, close enough to the socket to be cut anywhere and to read as slowly as it likes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlencode, urlsplit

from tests.e2e.sse_frames import Frame, FrameReader
from tests.patience import patient

CONNECT_SECONDS = 10.0


class ConnectionBrokenError(Exception):
    """The connection ended without the last chunk: cut, reset, or its server killed."""


class SseStream:
    """One response. ``complete`` says that it ended as HTTP wants it, and was not cut."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._chunk_left = 0
        # Of a body that is sent whole, as what an EventSource gets while Redis is away; None where it comes in chunks.
        self._length_left: int | None = None
        self.frames_reader = FrameReader()
        self._frames: deque[Frame] = deque()

    async def read_head(self) -> None:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ConnectionBrokenError(f"no response: {error!r}") from None
        status, *lines = head[:-4].decode("ascii").split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if (length := self.headers.get("content-length")) is not None:
            self._length_left = int(length)

    async def body(self) -> bytes:
        """All of a body that is no stream."""
        if self.status == 204:
            return b""
        pieces = []
        while data := await self.read():
            pieces.append(data)
        return b"".join(pieces)

    async def read(self, most_bytes: int = 65536) -> bytes:
        """The next bytes of the body, nothing at its end. Raises ConnectionBrokenError when it was cut."""
        try:
            if self._length_left is not None:
                return await self._read_whole(most_bytes)
            if self._chunk_left == 0:
                self._chunk_left = int((await self._reader.readuntil(b"\r\n"))[:-2], 16)
                if self._chunk_left == 0:
                    await self._reader.readexactly(2)
                    self.complete = True
                    return b""
            data = await self._reader.read(min(most_bytes, self._chunk_left))
            if not data:
                raise ConnectionBrokenError("ended in the middle of a chunk")
            self._chunk_left -= len(data)
            if self._chunk_left == 0:
                await self._reader.readexactly(2)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ConnectionBrokenError(repr(error)) from None
        return data

    async def _read_whole(self, most_bytes: int) -> bytes:
        left = self._length_left or 0
        data = await self._reader.read(min(most_bytes, left))
        if left and not data:
            raise ConnectionBrokenError("ended in the middle of a body")
        self._length_left = left - len(data)
        self.complete = self._length_left == 0
        return data

    async def next(self) -> Frame | None:
        """The next frame; None when the stream was closed well. Raises ConnectionBrokenError, MalformedFrameError."""
        while not self._frames:
            data = await self.read()
            if not data:
                return None
            self._frames.extend(self.frames_reader.feed(data))
        return self._frames.popleft()

    async def until(self, name: str, *, seconds: float = 20.0) -> list[Frame]:
        """Frames up to the first of this name; those behind it are still there to be read."""
        return await self.until_true(lambda frame: frame.name == name, seconds=seconds)

    async def until_true(self, wanted: Callable[[Frame], bool], *, seconds: float = 20.0) -> list[Frame]:
        got: list[Frame] = []
        try:
            async with asyncio.timeout(patient(seconds)):
                while (frame := await self.next()) is not None:
                    got.append(frame)
                    if wanted(frame):
                        return got
        except TimeoutError:
            raise AssertionError(f"it did not come within {seconds:g} s; the last were {got[-3:]}") from None
        raise AssertionError(f"the stream ended before it came; the last were {got[-3:]}")

    async def rest(self, *, seconds: float = 20.0) -> list[Frame]:
        """Frames until the stream is closed well. Raises ConnectionBrokenError when it is cut."""
        got: list[Frame] = []
        try:
            async with asyncio.timeout(patient(seconds)):
                while (frame := await self.next()) is not None:
                    got.append(frame)
        except TimeoutError:
            raise AssertionError(f"it did not end within {seconds:g} s; the last were {got[-3:]}") from None
        return got

    def expect_unnamed(self, unnamed: bool) -> None:
        self.frames_reader = FrameReader(named=not unnamed)

    @property
    def raw_socket(self) -> socket.socket:
        """asyncio's view of it, which takes socket options."""
        return cast("socket.socket", self._writer.get_extra_info("socket"))

    def reset(self) -> None:
        """Vanish with a reset, as a process does that is killed with unread data."""
        self.raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def open_stream(
    url: str,
    execution_id: str,
    *,
    after: str | None = None,
    query: Mapping[str, str] | None = None,
    receive_buffer_bytes: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncGenerator[SseStream, None]:
    """GET an execution's events. Raises OSError when nobody listens, ConnectionBrokenError."""
    address = urlsplit(url)
    target = f"/v1/executions/{execution_id}/events" + (f"?{urlencode(query)}" if query else "")
    given = {"Host": address.netloc, "Accept": "text/event-stream", **(headers or {})}
    if after is not None:
        given["Last-Event-ID"] = after
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    limit = 65536
    if receive_buffer_bytes is not None:
        # Both of them: what the stream reader holds back is only felt when its own buffer is full.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        limit = receive_buffer_bytes
    connection.setblocking(False)
    try:
        async with asyncio.timeout(patient(CONNECT_SECONDS)):
            await asyncio.get_running_loop().sock_connect(connection, (address.hostname, address.port))
    except BaseException:
        connection.close()
        raise
    reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
    stream = SseStream(reader, writer)
    try:
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        writer.write(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
        await stream.read_head()
        yield stream
    finally:
        stream.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
