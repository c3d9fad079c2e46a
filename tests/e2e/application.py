"""An application of examples/: two instances behind haproxy and two workers, each a process that may be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.e2e.proxied.haproxy import Haproxy
from tests.integration.cli.processes import wait_until
from tests.servers import RunningServer, free_port

EXAMPLES: Final = Path(__file__).parents[2] / "examples"


class Application:
    """``instances`` are the URLs of the application itself; ``proxy`` is the haproxy before them."""

    proxy: Haproxy

    def __init__(
        self, name: str, registry: str, server: RunningServer, directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._folder = EXAMPLES / name
        self._registry = registry
        self._directory = directory
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")} | {
            "TAILRACE_TEST_SESSION": os.environ["TAILRACE_TEST_SESSION"],
            "TAILRACE_REDIS_URL": server.url,
            "TAILRACE_LEASE_SECONDS": "5",
            "TAILRACE_CONCURRENCY": "20",
            **environment,
        }
        self._started: list[subprocess.Popen[bytes]] = []
        self._ports = [free_port() for _ in range(2)]
        self.instances = [f"http://127.0.0.1:{port}" for port in self._ports]
        self._serving = [self._run_instance(port) for port in self._ports]
        self.workers: list[subprocess.Popen[bytes]] = []
        for _ in range(2):
            self.new_worker()

    def new_worker(self) -> None:
        log = f"worker-{len(self._started)}"
        self.workers.append(self._run("tailrace", "worker", "--pipelines", self._registry, log=log))

    def kill_workers(self) -> None:
        """All that there are. Start another one before, or after."""
        for worker in self.workers:
            worker.kill()
        self.workers.clear()

    def serving(self, client_port: int) -> int:
        """The instance that a client's connection from this port goes to, through haproxy."""
        return self.proxy.serving(client_port)

    def kill_instance(self, number: int) -> None:
        self._serving[number].kill()
        self._serving[number].wait()

    def start_instance(self, number: int) -> None:
        self._serving[number] = self._run_instance(self._ports[number])

    def stop_instance(self, number: int) -> None:
        """As an operator does; it may take its time to leave."""
        self._serving[number].terminate()

    def await_ready(self) -> None:
        # Four processes import all there is, at the same time as those of other tests.
        wait_until(lambda: all(map(_answers, self.instances)), seconds=40, what=self.logs)

    def aclose(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()

    def _run_instance(self, port: int) -> subprocess.Popen[bytes]:
        return self._run("uvicorn", "main:app", "--port", str(port), log=f"app-{port}-{len(self._started)}")

    def _run(self, *module: str, log: str) -> subprocess.Popen[bytes]:
        with (self._directory / f"{log}.log").open("wb") as file:
            command = [sys.executable, "-m", *module]
            process = subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=file, stderr=file)
        self._started.append(process)
        return process

    def logs(self) -> str:
        """What each process has said, and how those have ended that are not there any more."""
        said = [f"== {path.name}\n{path.read_text()}" for path in sorted(self._directory.glob("*.log"))]
        ends = [f"process {process.args!r} ended with {process.poll()}" for process in self._started]
        return "\n".join(said + ends)


@contextmanager
def application(
    name: str, registry: str, server: RunningServer, directory: Path, **environment: str
) -> Iterator[tuple[Application, str]]:
    """The application, and the URL of the haproxy before it."""
    app = Application(name, registry, server, directory, environment)
    try:
        app.await_ready()
        with Haproxy(app.instances, directory) as proxy:
            proxy.await_ready()
            proxy.await_both_up()
            app.proxy = proxy
            try:
                yield app, proxy.url
            except BaseException:
                # pytest shows it with the failure.
                print(app.logs())
                raise
    finally:
        app.aclose()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False
