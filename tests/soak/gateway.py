"""A gateway of its own, with a Valkey of its own, and what can be read of them from outside."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from tailrace.bus import Bus, BusSettings, open_bus
from tests.integration.gateway.live import GatewayProcess
from tests.servers import spawn_server

PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Subject:
    """What is measured."""

    bus: Bus
    url: str
    pid: int

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE

    def cpu_seconds(self) -> float:
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((each / "schedstat").read_text(encoding="ascii").split()[0]) for each in threads) / 1e9

    async def metric(self, name: str) -> float:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.url}/metrics", timeout=60)).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@asynccontextmanager
async def subject() -> AsyncGenerator[Subject, None]:
    with (
        tempfile.TemporaryDirectory() as folder,
        spawn_server("valkey", directory=Path(folder)) as server,
        GatewayProcess(
            redis_url=server.url, prefix="soak", linger_seconds="1", max_connections_per_ip="0", log_level="error"
        ) as gateway,
    ):
        async with await open_bus(server.url, settings=BusSettings(prefix="soak")) as bus:
            yield Subject(bus, gateway.url(), gateway.pid)
