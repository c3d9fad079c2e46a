"""Whether this Redis may throw away a quiet execution that is under way. Pure.

Source: https://redis.io/docs/latest/develop/reference/eviction/
"""

from __future__ import annotations

from typing import Final

# All our keys have a time to live, so that the volatile-* policies are as bad as the allkeys-* ones.
HARMLESS_POLICY: Final = "noeviction"


def eviction_risk(memory_info: str) -> str | None:
    """Read what ``INFO memory`` says; the sentence to warn with, or None while nothing can be evicted."""
    pairs = (line.partition(":") for line in memory_info.splitlines())
    info = {name: value.strip() for name, _, value in pairs}
    policy, most = info.get("maxmemory_policy", HARMLESS_POLICY), info.get("maxmemory", "0")
    if policy == HARMLESS_POLICY or not (most.isascii() and most.isdigit()) or int(most) == 0:
        return None
    return (
        f"Redis may evict executions that are under way: maxmemory is {most} bytes and maxmemory-policy {policy}; "
        "use CONFIG SET maxmemory-policy noeviction"
    )
