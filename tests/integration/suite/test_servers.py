"""The suite's own servers keep their promises, or no other test can be believed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
import redis

from tests.leftovers import MARK_VARIABLE, end_leftovers, find_leftovers
from tests.servers import RunningServer, ServerStartError, spawn_server


def connect(server: RunningServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=0.5, decode_responses=True)


def test_each_kind_of_server_answers_and_keeps_nothing_on_disk(redis_server: RunningServer) -> None:
    with connect(redis_server) as client:
        assert client.ping()
        assert client.config_get("appendonly") == {"appendonly": "no"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_restarted_server_has_its_address_and_its_data_again(fresh_server: RunningServer) -> None:
    before = fresh_server.url, fresh_server.pid
    with connect(fresh_server) as client:
        client.set("kept", "yes")
        fresh_server.restart()
        assert client.get("kept") == "yes"
    assert fresh_server.url == before[0]
    assert fresh_server.pid != before[1]


def test_a_paused_server_keeps_silent_until_resumed(fresh_server: RunningServer) -> None:
    with connect(fresh_server) as client:
        client.ping()
        fresh_server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        fresh_server.resume()
        assert client.ping()


def test_a_paused_server_can_be_killed(fresh_server: RunningServer) -> None:
    fresh_server.pause()
    fresh_server.kill()
    assert not fresh_server.running
    with pytest.raises(ProcessLookupError):
        os.kill(fresh_server.pid, 0)


def test_port_zero_listens_on_a_free_tcp_port(tmp_path: Path) -> None:
    with spawn_server("valkey", directory=tmp_path, port=0) as server, connect(server) as client:
        assert server.port
        assert server.url == f"redis://127.0.0.1:{server.port}"
        assert cast("dict[str, int]", client.info("server"))["process_id"] == server.pid


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with (
        spawn_server("valkey", directory=tmp_path, port=0) as first,
        pytest.raises(ServerStartError, match="Address already in use"),
    ):
        spawn_server("valkey", directory=tmp_path / "second", port=first.port)


def test_a_process_that_left_its_session_is_still_found_and_ended() -> None:
    mark = "a-mark-of-this-test-alone"
    with subprocess.Popen(
        [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"],
        env={**os.environ, MARK_VARIABLE: mark},
        start_new_session=True,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert list(find_leftovers(mark)) == [child.pid]
        [description] = end_leftovers(mark, grace_seconds=0)
        assert description.startswith(f"{child.pid} ")
        assert child.wait() == -signal.SIGKILL
    assert end_leftovers(mark, grace_seconds=0) == []
