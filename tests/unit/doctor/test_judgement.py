"""What figures mean: each warning is one that an operator at three in the morning can act on."""

from __future__ import annotations

import pytest

from tailrace.bus.doctor import judgement
from tailrace.bus.doctor.judgement import Finding

INFO = """# Server\r
redis_version:7.2.4\r
# Memory\r
used_memory:900\r
maxmemory:1000\r
maxmemory_policy:allkeys-lru\r
role:master\r
connected_slaves:0\r
connected_clients:9\r
maxclients:10\r
aof_enabled:0\r
"""


def test_what_info_says_is_read() -> None:
    info = judgement.read_info(INFO)
    assert info["maxmemory_policy"] == "allkeys-lru"
    assert "# Memory" not in info


@pytest.mark.parametrize(
    ("info", "verdict"),
    [
        ({"redis_version": "7.0.15"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok"),
        ({"redis_version": "10.1.0"}, "ok"),
        ({"redis_version": "6.2.14"}, "failure"),
        ({}, "warning"),
    ],
)
def test_a_server_that_is_too_old_is_a_failure(info: dict[str, str], verdict: str) -> None:
    assert judgement.of_version(info).verdict == verdict


def test_a_policy_that_evicts_is_a_failure_where_there_is_a_bound_and_a_warning_where_there_is_none() -> None:
    assert judgement.of_eviction(judgement.read_info(INFO)).verdict == "failure"
    assert judgement.of_eviction({"maxmemory_policy": "volatile-ttl", "maxmemory": "0"}).verdict == "warning"
    assert judgement.of_eviction({"maxmemory_policy": "noeviction", "maxmemory": "10"}).verdict == "ok"
    assert judgement.of_eviction({}).verdict == "warning"


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (judgement.of_memory(judgement.read_info(INFO)), "warning"),
        (judgement.of_clients(judgement.read_info(INFO)), "warning"),
        (judgement.of_persistence(judgement.read_info(INFO)), "warning"),
        (judgement.of_persistence({"aof_enabled": "1"}), "ok"),
        (judgement.of_persistence({"aof_enabled": "1", "aof_last_write_status": "err"}), "failure"),
        (judgement.of_replication({"role": "slave"}), "failure"),
        (judgement.of_replication({"role": "master", "connected_slaves": "2"}), "ok"),
        (judgement.of_clock(-3.2), "warning"),
        (judgement.of_clock(0.2), "ok"),
        (judgement.of_latency([0.1, 0.2, 30.0]), "ok"),
        (judgement.of_latency([9.0, 8.0, 30.0]), "warning"),
        (judgement.of_tracking("tracking", 0.4), "ok"),
        (judgement.of_tracking("blocking", 0.4), "warning"),
        (judgement.of_tracking("tracking", None), "failure"),
        (judgement.of_files(1024), "warning"),
        (judgement.of_files(65536), "ok"),
        (judgement.of_overdue(None), "ok"),
        (judgement.of_overdue(-5), "ok"),
        (judgement.of_overdue(90), "warning"),
    ],
)
def test_a_figure_is_judged_and_what_is_not_good_comes_with_a_cure(finding: Finding, verdict: str) -> None:
    assert finding.verdict == verdict
    assert (finding.cure is None) == (verdict == "ok")
