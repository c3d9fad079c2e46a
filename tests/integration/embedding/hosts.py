"""The servers that an application with the gateway in it may run on, each started as anybody starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from tailrace.gateway.auth.api_keys import new_api_key
from tests.child import Child
from tests.patience import patient

DRAIN_SECONDS: Final = 1.0
KEY, KEY_DIGEST = new_api_key("hosts")

APPLICATION: Final = """
import logging
import os
import signal

from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from tailrace import Gateway, GatewaySettings

keys = [{{"id": "hosts", "sha256": "{digest}", "subject": "test", "scopes": ["read", "publish", "admin"]}}]
settings = GatewaySettings(drain_seconds={drain}, slow_timeout_seconds={slow}, {auth})
gateway = Gateway("{url}", settings=settings)


async def through(request, call_next):
    return await call_next(request)


def made():
    made = FastAPI(lifespan=gateway.lifespan)
    made.include_router(gateway.router, prefix="/live")

    @made.get("/about")
    async def about():
        return {{"pid": os.getpid(), "handlers": len(logging.getLogger("tailrace").handlers)}}

    return made


app = made()
layered = made()
layered.add_middleware(BaseHTTPMiddleware, dispatch=through)
layered.add_middleware(GZipMiddleware, minimum_size=1)
layered.add_middleware(CORSMiddleware, allow_origins=["https://app.example"])
outer = FastAPI(lifespan=gateway.lifespan)
outer.mount("/mounted", app)
"""


@dataclass(frozen=True, slots=True)
class Host:
    """``module`` with ``options``; ``bind`` is how the server is told its address."""

    module: str
    options: tuple[str, ...] = ()
    app: str = "app"
    path: str = ""
    # What a proxy in front has taken off.
    root_path: str = ""
    bind: str = "--bind=127.0.0.1:{port}"
    http2: bool = False

    def command(self, port: int) -> list[str]:
        binding = self.bind.format(port=port)
        return [sys.executable, "-m", self.module, f"main:{self.app}", binding, *self.options]


def _uvicorn(*options: str, app: str = "app", path: str = "", root_path: str = "") -> Host:
    return Host("uvicorn", options, app=app, path=path, root_path=root_path, bind="--port={port}")


HOSTS: Final = {
    "uvicorn": _uvicorn(),
    "uvicorn-httptools-asyncio-websockets": _uvicorn("--http=httptools", "--loop=asyncio", "--ws=websockets"),
    "uvicorn-h11-uvloop-wsproto": _uvicorn("--http=h11", "--loop=uvloop", "--ws=wsproto"),
    "uvicorn-h11-asyncio-sansio": _uvicorn("--http=h11", "--loop=asyncio", "--ws=websockets-sansio"),
    "uvicorn-layers": _uvicorn(app="layered"),
    "uvicorn-mount-root-path": _uvicorn("--root-path=/proxied", app="outer", path="/mounted", root_path="/proxied"),
    "gunicorn-uvicorn-worker": Host("gunicorn", ("-k", "uvicorn_worker.UvicornWorker")),
    "hypercorn": Host("hypercorn", ("--workers=0",)),
    "hypercorn-http2": Host("hypercorn", ("--workers=0", "--worker-class=uvloop"), http2=True),
}


class HostProcess(Child):
    """A host that serves the application; killed on leaving, with all that it has started."""

    def __init__(
        self,
        host: Host,
        folder: Path,
        url: str,
        prefix: str,
        *,
        auth: bool = True,
        drain_seconds: float = DRAIN_SECONDS,
        slow_seconds: float = 2.0,
    ) -> None:
        folder.mkdir(exist_ok=True)
        source = APPLICATION.format(
            url=url, digest=KEY_DIGEST, drain=drain_seconds, slow=slow_seconds, auth="api_keys=keys" if auth else ""
        )
        (folder / "main.py").write_text(source)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.host = host
        self._said: list[str] = []
        environment = {**os.environ, "TAILRACE_PREFIX": prefix, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[str] = subprocess.Popen(
            host.command(self.port),
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.worker_pid = self._await_ready()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.host.path}/live"

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        return "".join(self._said)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self._process.wait(patient(20))

    def resident_bytes(self) -> int:
        """Memory of the process that serves."""
        return int(Path(f"/proc/{self.worker_pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._said.extend(self._process.stdout)

    def _await_ready(self) -> int:
        deadline = time.monotonic() + patient(20)
        about = f"http://127.0.0.1:{self.port}{self.host.path}/about"
        while self.is_alive and time.monotonic() < deadline:
            try:
                answer = httpx.get(about, timeout=patient(5))
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                pid: int = answer.json()["pid"]
                return pid
        self._end()
        raise AssertionError(f"{self.host} did not come up:\n{self.log}")

    def _end(self) -> None:
        if self.is_alive:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._ended()

    def __exit__(self, *_: object) -> None:
        self._end()

    def _ended(self) -> None:
        self._reading.join(patient(5))
        assert self._process.stdout is not None
        self._process.stdout.close()


def socket_options(headers: Sequence[str] = ()) -> list[str]:
    """Lines of a request's head, for those who speak it by hand."""
    return [f"Authorization: Bearer {KEY}", *headers]
