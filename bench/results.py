"""What all rounds gave, by scenario and contender. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bench.measurement import Account, Measurement
from bench.stats import Spread, spread


@dataclass(slots=True)
class Results:
    rounds: dict[tuple[str, str], list[Measurement]] = field(default_factory=dict)
    absent: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why a contender has no figure in a scenario: not installed, not asked, or what failed."""

    def add(self, measurement: Measurement) -> None:
        self.rounds.setdefault((measurement.scenario, measurement.contender), []).append(measurement)

    def of(self, scenario: str) -> list[Measurement]:
        return [measured for (name, _), rounds in self.rounds.items() if name == scenario for measured in rounds]

    def figure(self, scenario: str, contender: str, name: str) -> Spread | None:
        rounds = self.rounds.get((scenario, contender), [])
        return spread([measurement.figures[name] for measurement in rounds if name in measurement.figures])

    def ratio(self, name: str, over: tuple[str, str], under: tuple[str, str]) -> Spread | None:
        """One (scenario, contender)'s figure over another's, round by round: they alternated."""
        above = self.rounds.get(over, [])
        below = self.rounds.get(under, [])
        pairs = [(a.figures[name], b.figures[name]) for a, b in zip(above, below, strict=False)]
        # A contender that was given no CPU at all in a round has nothing to be compared with.
        return spread([ours / theirs for ours, theirs in pairs if theirs])

    def flags(self, scenario: str, contender: str) -> list[str]:
        """Every flag of any round with in how many rounds it stood, and the sum of what it counts."""
        rounds = self.rounds.get((scenario, contender), [])
        counts: dict[str, list[int]] = {}
        for measurement in rounds:
            for flag in measurement.flags:
                word, _, number = flag.partition(" ")
                counts.setdefault(word, []).append(int(number or 0))
        return [
            f"{word} {len(numbers)}/{len(rounds)}" + (f" ({sum(numbers):,})" if sum(numbers) else "")
            for word, numbers in counts.items()
        ]

    def exact(self, scenario: str, contender: str) -> bool:
        rounds = self.rounds.get((scenario, contender), [])
        return bool(rounds) and all(measurement.account.exact for measurement in rounds)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Results:
        """What ``as_json`` gave."""
        results = cls()
        for one in told["rounds"]:
            account, flags = Account(**one["account"]), tuple(one["flags"])
            results.add(Measurement(one["scenario"], one["contender"], one["figures"], account, flags))
        for one in told["absent"]:
            results.absent[one["scenario"], one["contender"]] = one["reason"]
        return results

    def as_json(self) -> dict[str, Any]:
        return {
            "rounds": [asdict(measurement) for rounds in self.rounds.values() for measurement in rounds],
            "absent": [
                {"scenario": scenario, "contender": contender, "reason": reason}
                for (scenario, contender), reason in self.absent.items()
            ],
        }
