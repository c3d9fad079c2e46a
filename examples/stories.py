"""What the stories share: the processes of an application on an embedded server, for as long as one is told.

``python -m examples.NAME.story`` tells one; with ``--transcript`` it prints what is said instead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path

import httpx

TRANSCRIPT = sys.argv[1:] == ["--transcript"]


class Processes:
    """Python programs, started in one folder; ``directory`` is theirs for data, and goes with them."""

    def __init__(self, folder: Path, directory: Path) -> None:
        self.directory = directory
        self.redis_url = os.environ.get("TAILRACE_REDIS_URL", f"embedded://{directory}/data")
        self.environment = {**os.environ, "TAILRACE_REDIS_URL": self.redis_url}
        self.log = (directory / "log").open("w+")
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=self._folder, env=self.environment, stdout=self.log, stderr=self.log
        )
        self._started.append(process)
        return process

    def serve(self, port: int) -> subprocess.Popen[bytes]:
        return self.start("-m", "uvicorn", "main:app", "--port", str(port), "--log-level", "warning")

    def work(self, registry: str) -> subprocess.Popen[bytes]:
        return self.start("-m", "tailrace", "worker", "--pipelines", registry)

    def end(self) -> None:
        for process in self._started:
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            process.wait()


def told(story: str, tell: Callable[[Processes], Coroutine[None, None, bool]]) -> int:
    """Tell a story, by the file that it stands in. 0 where it ends well; else 1, and what the processes have said."""
    with tempfile.TemporaryDirectory() as directory:
        app = Processes(Path(story).parent, Path(directory))
        good = False
        with app.log as log:
            try:
                good = asyncio.run(tell(app))
            finally:
                app.end()
                if not good:
                    log.seek(0)
                    sys.stderr.write(log.read())
    return 0 if good else 1


async def ready(urls: Sequence[str]) -> None:
    """Wait until each of them is answered."""
    async with httpx.AsyncClient() as client:
        for url in urls:
            while True:
                with suppress(httpx.TransportError):
                    if (await client.get(url)).is_success:
                        break
                await asyncio.sleep(0.1)


def free_ports(count: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < count:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        ports += [port] if port not in ports else []
    return ports
