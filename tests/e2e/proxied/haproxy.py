"""A haproxy in front of gateways, round-robin, with the timeouts that one finds in the field."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx
import pytest

from tests.servers import free_port

READY_SECONDS: Final = 20.0

_CONFIG: Final = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout tunnel 60s
    retries 3
    option redispatch
    retry-on conn-failure empty-response
frontend clients
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
    balance roundrobin
    option httpchk GET /readyz
    default-server check inter 100ms fall 1 rise 1
{servers}
"""


class Haproxy:
    """Ended on leaving. Gateways may come and go; it asks their ``/readyz``."""

    def __init__(self, gateways: Sequence[str], directory: Path) -> None:
        binary = shutil.which("haproxy")
        if binary is None:
            message = "haproxy is not on the PATH; install it with: apt install haproxy"
            if os.environ.get("TAILRACE_CI_REQUIRE") == "1":
                pytest.fail(f"CI requires every tool: {message}")
            pytest.skip(message)
        self.url = f"http://127.0.0.1:{free_port()}"
        servers = "\n".join(f"    server gateway{n} {urlsplit(url).netloc}" for n, url in enumerate(gateways))
        config = directory / "haproxy.cfg"
        config.write_text(_CONFIG.format(port=urlsplit(self.url).port, servers=servers))
        self._log = directory / "haproxy.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([binary, "-db", "-f", str(config)], stdout=log, stderr=log)

    def await_ready(self) -> None:
        """Return when it passes requests on. Raises AssertionError with what it said."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"haproxy did not become ready: {self._log.read_text()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
