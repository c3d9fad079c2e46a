"""An nginx in front of a gateway as Debian's package configures it: it buffers what it is not told to pass on."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx
import pytest

from tests.servers import free_port

READY_SECONDS: Final = 20.0

_CONFIG: Final = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 500; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    gzip on;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {gateway};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


class Nginx:
    """Ended on leaving."""

    def __init__(self, gateway: str, directory: Path) -> None:
        binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if binary is None:
            message = "nginx is not on the PATH; install it with: apt install nginx-light"
            if os.environ.get("TAILRACE_CI_REQUIRE") == "1":
                pytest.fail(f"CI requires every tool: {message}")
            pytest.skip(message)
        self.url = f"http://127.0.0.1:{free_port()}"
        self._directory = directory
        config = directory / "nginx.conf"
        config.write_text(_CONFIG.format(directory=directory, port=urlsplit(self.url).port, gateway=gateway))
        # One process: it does not change its user, so its folder need not be anybody else's.
        command = [binary, "-c", str(config), "-p", str(directory), "-g", "master_process off;"]
        with (directory / "nginx.out").open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)

    def await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/healthz").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"nginx did not become ready: {(self._directory / 'nginx.out').read_text()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
