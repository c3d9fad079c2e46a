"""The units of deploy/systemd, and what they stand on: sd_notify, the watchdog and a socket that is handed over."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.deployment.composed import ROOT
from tests.e2e.proxied.proxy import find
from tests.integration.cli.processes import TAILRACE, call, family
from tests.patience import patient

UNITS: Final = ROOT / "deploy/systemd"
# As systemd starts a service: the socket is descriptor 3, and LISTEN_PID the process itself.
ACTIVATED: Final = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory(prefix="tr-") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(f"{folder}/notify")
        line.settimeout(patient(20))
        yield line


def test_the_units_are_valid(tmp_path: Path) -> None:
    analyze = find("systemd-analyze", "systemd")
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/tailrace/bin/tailrace", shutil.which("true") or "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = [tmp_path / "tailrace@gateway.socket", tmp_path / "tailrace@gateway.service"]
    shutil.copy(tmp_path / "tailrace@.service", units[1])
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [("gateway", "--port", "0"), ("worker",), ("worker", "--processes", "2")], ids=" ".join
)
def test_a_service_manager_is_told_ready_alive_and_stopping(
    server_url: str, prefix: str, manager: socket.socket, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    env = {
        "TAILRACE_PREFIX": prefix,
        "TAILRACE_REDIS_URL": server_url,
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "400000",
    }
    with family(tmp_path / "served", *arguments, env=env) as served:
        told = [manager.recv(100)]
        while told.count(b"READY=1") == 0 or told[-2:] != [b"WATCHDOG=1"] * 2:
            told.append(manager.recv(100))
        assert told.count(b"READY=1") == 1
        served.signal(signal.SIGTERM)
        while manager.recv(100) != b"STOPPING=1":
            pass
        assert served.wait() == 0


def test_while_a_gateway_restarts_connections_wait_at_the_socket_and_none_is_refused(
    server_url: str, prefix: str, tmp_path: Path
) -> None:
    env = {**os.environ, "TAILRACE_PREFIX": prefix, "TAILRACE_REDIS_URL": server_url}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", ACTIVATED, str(listener.fileno()), *TAILRACE, "gateway"]
        for _ in range(2):
            # Nobody accepts it yet.
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=patient(20))) as waiting:
                waiting.request("GET", "/readyz")
                with subprocess.Popen(command, env=env, pass_fds=[listener.fileno()], text=True) as gateway:
                    assert waiting.getresponse().status == 200
                    gateway.send_signal(signal.SIGTERM)
                    assert gateway.wait(patient(20)) == 0


def test_a_socket_is_not_shared_by_several_processes(server_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = subprocess.run(
            [sys.executable, "-c", ACTIVATED, str(listener.fileno()), *TAILRACE, "gateway", "--processes", "2"],
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
            timeout=patient(20),
            check=False,
        )
    assert done.returncode == 64
    assert "serves one process" in done.stderr


def test_variables_for_another_process_are_no_socket_of_ours(server_url: str) -> None:
    done = call(
        "gateway", "--port", "0", "--redis-url", "redis://127.0.0.1:1", env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    )
    assert done.returncode == 2
