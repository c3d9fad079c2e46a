"""A worker and a gateway that are told to stop while they are still starting."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.child import Child
from tests.integration.cli.processes import wait_until
from tests.servers import RunningServer

COMMANDS = {"worker": ("worker",), "gateway": ("gateway", "--port", "0")}
# Modules imported after `tailrace.cli.main`, of about a thousand; the last is more than there are: until it is ready.
MOMENTS = (1, 100, 300, 600, 10_000)


class Starting(Child):
    """A command that tells of each module that it has imported."""

    def __init__(self, output: Path, *arguments: str, redis_url: str, prefix: str) -> None:
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-X", "importtime", "-m", "tailrace", *arguments, "--redis-url", redis_url],
                env={**os.environ, "TAILRACE_PREFIX": prefix},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def await_import(self, number: int) -> None:
        """Return when so many modules have been imported behind the command line's own, or when it is ready."""

        def come_so_far() -> bool:
            said = self._output.read_text()
            _, began, imported = said.partition(" tailrace.cli.main\n")
            return " ready " in said or (bool(began) and imported.count("\n") >= number)

        wait_until(come_so_far, seconds=60)

    def await_connecting(self) -> None:
        # The loop's own pair, and Redis.
        wait_until(lambda: self._sockets() >= 3, seconds=60)

    def stop(self, order: signal.Signals) -> tuple[int, bool]:
        """Its exit code, and whether it printed a traceback."""
        self._process.send_signal(order)
        return self._process.wait(), "Traceback" in self._output.read_text()

    def _sockets(self) -> int:
        count = 0
        for descriptor in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += "socket:" in str(descriptor.readlink())
        return count


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_attack_10_a_stop_at_any_moment_of_the_start_ends_with_0(
    command: str, moment: int, server_url: str, prefix: str, tmp_path: Path
) -> None:
    order = signal.SIGTERM if MOMENTS.index(moment) % 2 == list(COMMANDS).index(command) else signal.SIGINT
    with Starting(tmp_path / "output", *COMMANDS[command], redis_url=server_url, prefix=prefix) as starting:
        starting.await_import(moment)

        assert starting.stop(order) == (0, False)


@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGINT])
def test_attack_10_a_worker_stopped_while_redis_does_not_answer_ends_with_0(
    order: signal.Signals, fresh_server: RunningServer, prefix: str, tmp_path: Path
) -> None:
    fresh_server.pause()
    with Starting(tmp_path / "output", "worker", redis_url=fresh_server.url, prefix=prefix) as starting:
        starting.await_connecting()

        assert starting.stop(order) == (0, False)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_was_started_with_nohup_outlives_its_terminal(
    command: str, server_url: str, prefix: str, tmp_path: Path
) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        starting = Starting(tmp_path / "output", *COMMANDS[command], redis_url=server_url, prefix=prefix)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    with starting:
        starting.await_import(1)
        os.kill(starting._process.pid, signal.SIGHUP)
        starting.await_import(10_000)
        os.kill(starting._process.pid, signal.SIGHUP)

        assert starting.stop(signal.SIGTERM) == (0, False)
