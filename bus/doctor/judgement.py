"""Findings: what was found, whether it is good, and the cure. Pure: each function takes what Redis said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Literal

OLDEST: Final = (7, 0)
SLOW_MS: Final = 5.0
SKEW_SECONDS: Final = 1.0
FULL: Final = 0.8
FEW_FILES: Final = 10_000
OVERDUE_SECONDS: Final = 30.0

Info = Mapping[str, str]
Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``failure``: promises will be broken. ``warning``: some day, or under load. ``cure`` where there is one."""

    check: str
    verdict: Verdict
    found: str
    cure: str | None = None


def read_info(text: str) -> Info:
    """Parse what INFO says (https://redis.io/docs/latest/commands/info/)."""
    pairs = (line.partition(":") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value.strip() for name, _, value in pairs}


def of_version(info: Info) -> Finding:
    name, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", "")
    version = version or info.get("redis_version", "")
    found = f"{name} {version or 'of a version that it does not tell'}"
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        return Finding("version", "warning", found, "make sure that it is Redis 7.0 or newer, or Valkey")
    if (int(numbers[1]), int(numbers[2])) < OLDEST:
        return Finding("version", "failure", found, "use Redis 7.0 or newer, or Valkey")
    return Finding("version", "ok", found)


def of_latency(round_trips_ms: Sequence[float]) -> Finding:
    typical = median(round_trips_ms)
    found = f"{typical:.2f} ms there and back (worst of {len(round_trips_ms)}: {max(round_trips_ms):.2f} ms)"
    if typical > SLOW_MS:
        return Finding("latency", "warning", found, "run gateways and workers near Redis; viewers wait for this twice")
    return Finding("latency", "ok", found)


def of_eviction(info: Info) -> Finding:
    policy = info.get("maxmemory_policy", "unknown")
    most = _number(info, "maxmemory")
    bound = f"{most / 2**20:.0f} MB" if most else "no bound on memory"
    found = f"maxmemory-policy {policy}, {bound}"
    cure = "CONFIG SET maxmemory-policy noeviction (and in redis.conf): other policies delete live executions"
    if policy == "noeviction":
        return Finding("eviction", "ok", found)
    if policy == "unknown":
        return Finding("eviction", "warning", found, "make sure that maxmemory-policy is noeviction")
    return Finding("eviction", "failure" if most else "warning", found, cure)


def of_memory(info: Info) -> Finding:
    used, most = _number(info, "used_memory"), _number(info, "maxmemory")
    found = f"{used / 2**20:.0f} MB used" + (f" of {most / 2**20:.0f} MB" if most else "")
    if most and used > FULL * most:
        return Finding("memory", "warning", found, "give Redis more memory, or lower TAILRACE_ENDED_SECONDS")
    return Finding("memory", "ok", found)


def of_persistence(info: Info) -> Finding:
    if info.get("aof_enabled") == "1":
        if info.get("aof_last_write_status", "ok") != "ok":
            return Finding("persistence", "failure", "AOF, but its last write failed", "look at Redis's disk")
        return Finding("persistence", "ok", "AOF")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding("persistence", "failure", "snapshots, but the last one failed", "look at Redis's disk")
    return Finding(
        "persistence",
        "warning",
        "snapshots only, or nothing",
        "appendonly yes, unless executions may be lost with a restart of Redis (viewers are told of it as a gap)",
    )


def of_replication(info: Info) -> Finding:
    role = info.get("role", "unknown")
    if role == "slave":
        return Finding(
            "role", "failure", "a replica, which takes no writes", "give the master's URL, or redis+sentinel://"
        )
    replicas = info.get("connected_slaves", "0")
    return Finding("role", "ok", f"master with {replicas} replicas" if replicas != "0" else "master without a replica")


def of_clients(info: Info) -> Finding:
    now, most = _number(info, "connected_clients"), _number(info, "maxclients")
    found = f"{now:.0f} connections" + (f" of {most:.0f}" if most else "")
    if most and now > FULL * most:
        return Finding("connections", "warning", found, "raise maxclients; a gateway takes three, a worker four")
    return Finding("connections", "ok", found)


def of_clock(skew_seconds: float) -> Finding:
    found = f"this host is {abs(skew_seconds):.3f} s {'ahead of' if skew_seconds > 0 else 'behind'} Redis"
    if abs(skew_seconds) > SKEW_SECONDS:
        cure = "let NTP set both clocks; leases and ids follow Redis's alone, but times of events and tokens do not"
        return Finding("clock", "warning", found, cure)
    return Finding("clock", "ok", found)


def of_tracking(mode: str, noticed_ms: float | None) -> Finding:
    if noticed_ms is None:
        return Finding("tail", "failure", f"{mode}: a write was not noticed", "look at Redis's log, or for a proxy")
    found = f"{mode}: a write was noticed within {noticed_ms:.1f} ms"
    if mode != "tracking":
        cure = "allow CLIENT TRACKING (ACL: +client|tracking); blocking takes a connection for 64 executions"
        return Finding("tail", "warning", found, cure)
    return Finding("tail", "ok", found)


def of_files(soft_limit: int) -> Finding:
    found = f"{soft_limit} open files for a process of this user"
    if soft_limit < FEW_FILES:
        return Finding("files", "warning", found, "ulimit -n 65536: each viewer of a gateway takes one")
    return Finding("files", "ok", found)


def of_overdue(seconds: float | None) -> Finding:
    if seconds is None or seconds < OVERDUE_SECONDS:
        return Finding("healing", "ok", "no execution is waiting to be healed")
    found = f"an execution has been waiting {seconds:.0f} s to be healed"
    return Finding("healing", "warning", found, "start a worker or a gateway: each of them heals")


def _number(info: Info, name: str) -> float:
    given = info.get(name, "0")
    return float(given) if given.isascii() and given.replace(".", "", 1).isdigit() else 0.0
