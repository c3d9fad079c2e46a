from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.cli.processes import call
from tests.servers import free_port


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("command", [("gateway", "--port", "0"), ("worker",), ("run", "--", "true"), ("tail", "x")])
def test_redis_that_is_not_there_is_exit_code_2_and_one_line(command: tuple[str, ...]) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}"
    done = call(command[0], "--redis-url", url, *command[1:])

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot reach Redis at redis://:***@127.0.0.1" in done.stderr
    assert "secret" not in done.stderr


def test_a_taken_port_is_exit_code_3_and_one_line(taken_port: int, server_url: str) -> None:
    done = call("gateway", "--port", str(taken_port), "--redis-url", server_url)

    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{taken_port}" in done.stderr
    assert "--port" in done.stderr


def test_a_taken_port_ends_up_with_exit_code_3(taken_port: int, tmp_path: Path) -> None:
    done = call("up", "--port", str(taken_port), "--dir", str(tmp_path / "data"))

    assert done.returncode == 3
    assert "the port is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_directory_that_cannot_be_used_ends_up_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call("up", "--dir", str(tmp_path / "file" / "data"))

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is not a directory" in done.stderr


@pytest.mark.parametrize("command", [("tail", "x"), ("submit", "document")])
def test_a_gateway_that_is_not_there_is_exit_code_4(command: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = call(*command, "--gateway", url)

    assert done.returncode == 4
    assert url in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_settings_of_the_environment_are_named() -> None:
    done = call("gateway", env={"TAILRACE_PORT": "many"})

    assert done.returncode == 64
    assert "TAILRACE_PORT" in done.stderr
    assert done.stderr.count("\n") == 1
