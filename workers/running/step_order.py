"""What the process of a step is told to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StepOrder:
    run: Callable[..., Any]
    step: str
    execution_id: str
    attempt: int
    given: Any
    options: Any
    outputs: dict[str, Any]
    restored: Any
    retry_on: tuple[type[Exception], ...]
