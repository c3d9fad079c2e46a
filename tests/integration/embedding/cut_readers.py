"""Readers that are cut off at any byte and come back, one for each wire, with parsers that share no code with ours."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import h11
import msgpack
import wsproto
from wsproto.events import BytesMessage, CloseConnection, Request, TextMessage
from wsproto.utilities import LocalProtocolError

from tests.patience import patient

GAP: Final = "lost"
_READ_BYTES: Final = 2048


class Unit(NamedTuple):
    """What a reader takes in one piece: ``what`` and ``data``, and the id to come back with, if it has one."""

    execution: str
    what: str
    data: Any
    id: str | None


class Reader(ABC):
    """Takes an execution's stream in pieces, each cut off after so many bytes, and keeps what was whole."""

    def __init__(self, port: int, path: str) -> None:
        self.units: list[Unit] = []
        self.last_id: str | None = None
        self.ended = False
        self._port = port
        self._path = path

    async def read(self, most_bytes: int | None, until: int) -> None:
        """Connect and read, until so many bytes have come, this mark, or the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.timeout(patient(10)):
                await self._take(reader, writer, most_bytes, until)
        finally:
            writer.transport.abort()

    async def _take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most_bytes: int | None, until: int
    ) -> None:
        parser = self.parser()
        writer.write(next(parser))
        left = most_bytes
        while left is None or left > 0:
            got = await reader.read(_READ_BYTES if left is None else min(left, _READ_BYTES))
            if left is not None:
                left -= len(got)
            try:
                units = parser.send(got)
            except StopIteration:
                self.ended = True
                return
            for unit in units:
                self.units.append(unit)
                self.last_id = unit.id or self.last_id
            if any(unit.data == until for unit in units):
                return

    @abstractmethod
    def parser(self) -> Any:
        """A generator that gives the request, and for bytes the units that are whole; over when all was told."""


class HttpReader(Reader):
    resumes_with = "Last-Event-ID"
    accept = "text/event-stream"

    def parser(self) -> Any:
        client = h11.Connection(h11.CLIENT)
        headers = [("Host", "test"), ("Accept", self.accept)]
        path = self._path
        if self.last_id is not None and self.resumes_with == "from":
            path += f"{'&' if '?' in path else '?'}from={self.last_id}"
        elif self.last_id is not None:
            headers.append((self.resumes_with, self.last_id))
        lead = client.send(h11.Request(method="GET", target=path, headers=headers)) or b""
        body = ""
        decoded = b""
        client.receive_data((yield lead + (client.send(h11.EndOfMessage()) or b"")))
        while True:
            while not isinstance(event := client.next_event(), type(h11.NEED_DATA)):
                match event:
                    case h11.Response():
                        assert event.status_code in {200, 204}, event
                    case h11.Data():
                        decoded += event.data
                    case h11.EndOfMessage():
                        units, body = self.whole(body + decoded.decode())
                        self.units += units
                        return
            # A character may be cut in two.
            text = decoded.decode(errors="ignore")
            decoded = decoded[len(text.encode()) :]
            units, body = self.whole(body + text)
            client.receive_data((yield units))

    @abstractmethod
    def whole(self, body: str) -> tuple[list[Unit], str]:
        """What is whole of a body, and the rest of it."""


class SseReader(HttpReader):
    """As an EventSource reads (WHATWG HTML, section 9.2.6): a block that is not ended is none."""

    def whole(self, body: str) -> tuple[list[Unit], str]:
        blocks = body.split("\n\n")
        return [unit for block in blocks[:-1] if (unit := self._block(block)) is not None], blocks[-1]

    def _block(self, block: str) -> Unit | None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name:
                fields[name] = fields[name] + "\n" + value[1:] if name in fields else value.removeprefix(" ")
        if "data" not in fields:
            return None
        given = fields.get("id")
        return self.unit(fields.get("event"), json.loads(fields["data"]), given)

    def unit(self, name: str | None, data: Any, given: str | None) -> Unit:
        if name == "stream.gap" or (isinstance(data, dict) and data.get("type") == "stream.gap"):
            return Unit(data["execution_id"], GAP, None, given)
        if isinstance(data, dict) and "execution_id" in data and "ts" in data:
            return Unit(data["execution_id"], data["type"], data["data"], given)
        return Unit("", name or data.get("type", ""), data, given)


class OwnSseReader(SseReader):
    def unit(self, name: str | None, data: Any, given: str | None) -> Unit:
        return Unit("own", str(name), data, given)


class NdjsonReader(HttpReader):
    resumes_with = "from"
    accept = "application/x-ndjson"

    def whole(self, body: str) -> tuple[list[Unit], str]:
        lines = body.split("\n")
        return [self.unit(json.loads(line)) for line in lines[:-1] if line], lines[-1]

    def unit(self, line: dict[str, Any]) -> Unit:
        if line["type"].startswith("stream."):
            kind = GAP if line["type"] == "stream.gap" else line["type"]
            return Unit(line.get("execution_id", ""), kind, None, line.get("id"))
        return Unit(line["execution_id"], line["type"], line["data"], line["id"])


class OwnNdjsonReader(NdjsonReader):
    def unit(self, line: dict[str, Any]) -> Unit:
        return Unit("own", line.get("what", line.get("type", "")), line.get("data"), line.get("id"))


class SocketReader(Reader):
    subprotocol = "tailrace.v1.json"

    def parser(self) -> Any:
        client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        path = self._path if self.last_id is None else f"{self._path}?from={self.last_id}"
        subprotocols = [self.subprotocol] if self.subprotocol else []
        lead = client.send(Request(host="test", target=path, subprotocols=subprotocols))
        client.receive_data((yield lead))
        message: str | bytes | bytearray = b""
        while True:
            units: list[Unit] = []
            for event in self._events(client):
                if isinstance(event, CloseConnection):
                    self.units += units
                    return
                if isinstance(event, TextMessage | BytesMessage):
                    message = event.data if not message else message + event.data  # type: ignore[operator]
                    if event.message_finished:
                        units += self.units_of(message)
                        message = b""
            client.receive_data((yield units))

    def _events(self, client: wsproto.WSConnection) -> Iterator[Any]:
        try:
            yield from client.events()
        except LocalProtocolError:
            return

    def units_of(self, message: str | bytes | bytearray) -> list[Unit]:
        said = msgpack.unpackb(message) if isinstance(message, bytes | bytearray) else json.loads(message)
        return [self._unit(each) for each in said]

    def _unit(self, said: dict[str, Any]) -> Unit:
        if said["op"] == "event":
            return Unit(said["execution"], said["type"], said["data"], said["id"])
        return Unit(said.get("execution", ""), GAP if said["op"] == "gap" else f"op.{said['op']}", None, None)


class MsgpackReader(SocketReader):
    subprotocol = "tailrace.v1.msgpack"


class OwnSocketReader(SocketReader):
    subprotocol = ""

    def units_of(self, message: str | bytes | bytearray) -> list[Unit]:
        said = json.loads(message)
        return [Unit("own", said.get("what", said.get("type", "")), said.get("data"), said.get("id"))]
