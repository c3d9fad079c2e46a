"""A viewer over SSE on a bare socket, as a browser does it: it reconnects to any gateway, with Last-Event-ID."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

RECONNECT_SECONDS = 0.5
# Three heartbeats: the connection is half open.
SILENT_SECONDS = 45.0


class Viewer:
    def __init__(self, execution_id: str, gateways: Sequence[tuple[str, int]]) -> None:
        self.execution_id = execution_id
        self.seen: list[tuple[str, str, Any]] = []
        self.gaps: list[dict[str, Any]] = []
        self.ended = False
        self.connections = 0
        # When each was seen.
        self.times: list[float] = []
        self._gateways = list(gateways)
        self._cursor = ""

    async def watch(self) -> None:
        """Until the log has ended."""
        while not self.ended:
            host, port = random.choice(self._gateways)
            self.connections += 1
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                await self._connection(host, port)
            if not self.ended:
                await asyncio.sleep(RECONNECT_SECONDS * (0.5 + random.random()))

    async def _connection(self, host: str, port: int) -> None:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 5)
        try:
            last = f"Last-Event-ID: {self._cursor}\r\n" if self._cursor else ""
            writer.write(
                f"GET /v1/executions/{self.execution_id}/events?wait_for_start=30 HTTP/1.0\r\nHost: {host}\r\n"
                f"Accept: text/event-stream\r\n{last}\r\n".encode()
            )
            status = await asyncio.wait_for(reader.readline(), SILENT_SECONDS)
            if b" 204 " in status:
                self.ended = True
                return
            if b" 200 " not in status:
                raise ValueError(status.decode())
            while await reader.readline() not in {b"\r\n", b""}:
                pass
            await self._blocks(reader)
        finally:
            writer.close()

    async def _blocks(self, reader: asyncio.StreamReader) -> None:
        fields: dict[str, str] = {}
        while line := (await asyncio.wait_for(reader.readline(), SILENT_SECONDS)).decode():
            if not line.endswith("\n"):
                return
            name, _, value = line.rstrip("\n").partition(":")
            if line != "\n":
                if name:
                    fields[name] = value.removeprefix(" ")
                continue
            if "data" in fields:
                self._take(fields)
            if self.ended:
                return
            fields = {}

    def _take(self, fields: dict[str, str]) -> None:
        if fields.get("id"):
            self._cursor = fields["id"]
        kind = fields.get("event", "")
        message = json.loads(fields["data"])
        if kind == "stream.end":
            self.ended = True
        elif kind == "stream.gap":
            self.gaps.append(message)
        elif not kind.startswith("stream."):
            self.seen.append((fields["id"], kind, message["data"]))
            self.times.append(time.monotonic())
