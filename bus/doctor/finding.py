"""What was found, whether it is good, and the cure. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``failure``: promises will be broken. ``warning``: some day, or under load. ``cure`` where there is one."""

    check: str
    verdict: Verdict
    found: str
    cure: str | None = None
