"""Which policies may take a live log away, as INFO tells them."""

from __future__ import annotations

import pytest

from tailrace.bus.ops.eviction import eviction_risk


def info(policy: str, most: str) -> str:
    return f"# Memory\r\nused_memory:1\r\nmaxmemory:{most}\r\nmaxmemory_human:0B\r\nmaxmemory_policy:{policy}\r\n"


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl"])
def test_case_18_any_policy_but_one_may_evict_a_live_log_once_memory_is_bounded(policy: str) -> None:
    risk = eviction_risk(info(policy, "1048576"))
    assert risk is not None
    assert policy in risk
    assert "noeviction" in risk


@pytest.mark.parametrize(("policy", "most"), [("noeviction", "1048576"), ("allkeys-lru", "0"), ("noeviction", "0")])
def test_case_18_nothing_is_evicted_by_this_one_or_without_a_bound(policy: str, most: str) -> None:
    assert eviction_risk(info(policy, most)) is None


@pytest.mark.parametrize("text", ["", "nonsense", "maxmemory:\r\nmaxmemory_policy:allkeys-lru", "maxmemory:9"])
def test_what_a_server_does_not_tell_is_no_risk_that_could_be_named(text: str) -> None:
    assert eviction_risk(text) is None
