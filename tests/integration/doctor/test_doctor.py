"""``tailrace doctor`` on real servers, sound ones and sick ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import redis

from tests.integration.cli.processes import call
from tests.servers import RunningServer, spawn_server


def findings(url: str, *, code: int, prefix: str = "tr") -> dict[str, dict[str, str]]:
    env = {"PATH": os.environ["PATH"], "TAILRACE_PREFIX": prefix}
    done = call("doctor", "--redis-url", url, "--json", env=env)
    assert done.returncode == code, done.stderr + done.stdout
    return {finding["check"]: finding for finding in map(json.loads, done.stdout.splitlines())}


def test_a_sound_server_passes_and_nothing_is_left_behind(redis_server: RunningServer, prefix: str) -> None:
    found = findings(redis_server.url, code=0, prefix=prefix)
    assert {name for name, finding in found.items() if finding["verdict"] == "ok"} >= {
        *("version", "role", "eviction", "memory", "latency", "clock", "append", "tail", "healing"),
    }
    with redis.Redis.from_url(redis_server.url) as client:
        left = [key for key in client.scan_iter(f"{prefix}:*") if b"doctor-" in key]
    assert left == []


def test_a_server_that_evicts_refuses_tracking_and_is_a_replica_is_told_so(tmp_path: Path) -> None:
    directory = tmp_path / "sick"
    directory.mkdir()
    sick = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--rename-command", "CLIENT", "")
    with spawn_server("valkey", directory=directory, extra=sick) as server:
        found = findings(server.url, code=1)
        assert found["eviction"]["verdict"] == "failure"
        assert "noeviction" in found["eviction"]["cure"]
        assert found["tail"]["verdict"] == "warning"
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
        found = findings(server.url, code=1)
        assert found["role"]["verdict"] == "failure"
        assert found["append"]["verdict"] == "failure"


def test_the_table_says_what_to_do(redis_server: RunningServer) -> None:
    done = call("doctor", "--redis-url", redis_server.url)
    assert done.returncode == 0
    assert "persistence" in done.stdout
    assert "-> appendonly yes" in done.stdout


def test_no_server_is_one_sentence() -> None:
    done = call("doctor", "--redis-url", "redis://127.0.0.1:1/0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("tailrace: cannot reach Redis")
