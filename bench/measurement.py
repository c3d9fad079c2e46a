"""What one round of one contender gave, and what makes it doubtful. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

GENERATOR_BOUND: Final = 0.85
"""Above this share of a core the viewers process may be what is measured."""
SATURATED: Final = 0.97
"""Below this share of what was offered, a contender is not keeping up."""
NOISY: Final = 0.15
"""Cores used by others on the machine, or taken by the hypervisor."""


@dataclass(frozen=True, slots=True)
class Account:
    """The exact account over all viewers, from the first event to the last."""

    lost: int = 0
    gaps: int = 0
    duplicates: int = 0
    foreign: int = 0
    cut: int = 0

    @property
    def exact(self) -> bool:
        return not (self.lost or self.gaps or self.duplicates or self.foreign)


EXACT: Final = Account()


@dataclass(frozen=True, slots=True)
class Measurement:
    """Figures by name (units in the names), the account, and flags to print beside them."""

    scenario: str
    contender: str
    figures: dict[str, float]
    account: Account = field(default_factory=Account)
    flags: tuple[str, ...] = ()


def flags(
    account: Account = EXACT,
    *,
    delivered_share: float = 1.0,
    generator_share: float = 0.0,
    others_share: float = 0.0,
    held_back: int = 0,
) -> tuple[str, ...]:
    """What a reader must know before believing a row."""
    found = []
    if account.gaps or account.lost:
        found.append(f"LOST {account.gaps + account.lost}")
    if account.duplicates:
        found.append(f"DOUBLED {account.duplicates}")
    if account.foreign:
        found.append(f"FOREIGN {account.foreign}")
    if account.cut:
        found.append(f"cut {account.cut}")
    if delivered_share < SATURATED or held_back:
        found.append("saturated")
    if generator_share > GENERATOR_BOUND:
        found.append("generator-bound")
    if others_share > NOISY:
        found.append("noisy")
    return tuple(found)
