"""What every viewer got, held against the log itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import orjson

from tailrace.bus.log.publisher import TOKEN_LINGER_SECONDS


class Fingerprint(NamedTuple):
    """One event: its id and a digest of everything it says, so that many viewers of a long log fit into memory."""

    id: str
    content: bytes


def fingerprint(entry_id: str, event_type: str, step: str | None, ts: str, data: object) -> Fingerprint:
    said = orjson.dumps([event_type, step, ts, data], option=orjson.OPT_SORT_KEYS)
    return Fingerprint(entry_id, blake2b(said, digest_size=16).digest())


@dataclass(slots=True)
class Seen:
    """What one viewer got, in the order in which it came.

    Latencies are seconds from the worker's emit, of live events; tokens wait in the worker for others to join them.
    """

    events: list[Fingerprint] = field(default_factory=list)
    resumes: int = 0
    gaps: int = 0
    latencies: list[float] = field(default_factory=list)
    token_latencies: list[float] = field(default_factory=list)


class Latency(NamedTuple):
    """Of nothing it is None."""

    p50_seconds: float | None
    p99_seconds: float | None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Latency:
        ascending = sorted(seconds)
        return cls(quantile(ascending, 0.50), quantile(ascending, 0.99))

    def __str__(self) -> str:
        return " / ".join("-" if each is None else f"{each * 1000:.1f} ms" for each in self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``lost``, ``doubled`` and ``wrong`` (changed, invented or out of order) count deliveries over all viewers."""

    viewers: int
    log_events: int
    delivered: int
    resumes: int
    gaps: int
    lost: int
    doubled: int
    wrong: int
    latency: Latency
    token_latency: Latency
    status: str
    gateway_killed: bool
    failure: str | None = None

    @property
    def exact(self) -> bool:
        return self.viewers > 0 and self.log_events > 0 and not (self.lost or self.doubled or self.wrong or self.gaps)

    @property
    def good(self) -> bool:
        return self.exact and self.status == "completed" and self.gateway_killed and self.resumes > 0

    def sentence(self) -> str:
        if self.failure is not None:
            return self.failure
        if self.good:
            return (
                f"A gateway was killed half way; all {self.viewers} viewers got exactly the log: "
                f"{self.delivered} deliveries, nothing lost, nothing doubled."
            )
        return "Not as promised: " + "; ".join(self._faults()) + "."

    def figures(self) -> list[tuple[str, str]]:
        """The rows of the table."""
        return [
            ("viewers", f"{self.viewers}"),
            ("events in the log", f"{self.log_events}"),
            ("deliveries", f"{self.delivered}"),
            ("resumes", f"{self.resumes}"),
            ("gaps", f"{self.gaps}"),
            ("lost", f"{self.lost}"),
            ("doubled", f"{self.doubled}"),
            ("wrong or out of order", f"{self.wrong}"),
            ("latency p50 / p99, emit to viewer", str(self.latency)),
            (f"  of tokens, which linger {TOKEN_LINGER_SECONDS * 1000:.0f} ms", str(self.token_latency)),
        ]

    def _faults(self) -> Iterable[str]:
        if self.status != "completed":
            yield f"the execution is {self.status}"
        if not self.gateway_killed:
            yield "the execution ended before a gateway could be killed"
        elif not self.resumes:
            yield "no viewer had to resume"
        for number, what in ((self.lost, "lost"), (self.doubled, "doubled"), (self.wrong, "wrong")):
            if number:
                yield f"{number} deliveries {what}"
        if self.gaps:
            yield f"{self.gaps} gaps told"
        if not self.viewers or not self.log_events:
            yield "there was nothing to compare"


def judge(
    log: Sequence[Fingerprint],
    seen: Sequence[Seen],
    *,
    status: str,
    gateway_killed: bool,
    failure: str | None = None,
) -> Verdict:
    """``failure`` is the execution's own reason, when it did not complete."""
    lost, doubled, wrong = (
        map(sum, zip(*(_compare(log, one.events) for one in seen), strict=True)) if seen else (0, 0, 0)
    )
    return Verdict(
        viewers=len(seen),
        log_events=len(log),
        delivered=sum(len(one.events) for one in seen),
        resumes=sum(one.resumes for one in seen),
        gaps=sum(one.gaps for one in seen),
        lost=lost,
        doubled=doubled,
        wrong=wrong,
        latency=Latency.of(latency for one in seen for latency in one.latencies),
        token_latency=Latency.of(latency for one in seen for latency in one.token_latencies),
        status=status,
        gateway_killed=gateway_killed,
        failure=failure,
    )


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """The nearest rank; None of nothing."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else None


def _compare(log: Sequence[Fingerprint], got: Sequence[Fingerprint]) -> tuple[int, int, int]:
    """Lost, doubled, wrong. All zero exactly when both are the same."""
    if list(log) == list(got):
        return 0, 0, 0
    stands = dict(log)
    first_of_each = list(dict.fromkeys(one.id for one in got))
    doubled = len(got) - len(first_of_each)
    lost = len(stands.keys() - set(first_of_each))
    changed = sum(1 for one in got if stands.get(one.id) != one.content)
    place = {entry_id: index for index, entry_id in enumerate(stands)}
    places = [place[entry_id] for entry_id in first_of_each if entry_id in place]
    disordered = sum(1 for before, after in pairwise(places) if after < before)
    return lost, doubled, changed + disordered
