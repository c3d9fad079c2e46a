"""What is to be done: named steps, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from bus.event import check_step
from workers.context import Context

MAX_ATTEMPTS: Final = 3

Outputs = Mapping[str, Any]
StepFunction = Callable[[Context, Outputs], Awaitable[Any]] | Callable[[Context, Outputs], Any]


@dataclass(frozen=True, slots=True)
class Step:
    """``run`` gets the context and the outputs of the steps before, by name, and gives its own.

    Async, or a plain function, which runs in a thread. It may run again after a worker was lost. An output is made of
    what msgpack can hold (dicts, lists, strings, numbers, bytes; dataclasses and pydantic models become dicts), at
    most 1 MiB. A plain function cannot be cancelled: its thread goes on until it returns, or emits its next event.
    """

    name: str
    run: StepFunction


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The output of the last step is the result of the execution.

    ``max_attempts`` is how often it is begun at all: 1 for what must not be repeated when a worker was lost half way.
    """

    name: str
    steps: tuple[Step, ...]
    input_model: type[BaseModel] | None = None
    max_attempts: int = MAX_ATTEMPTS

    def __post_init__(self) -> None:
        """Raises ValueError for what could never run; InvalidEventError (one of these) for a step's name."""
        if not self.name:
            raise ValueError("name: a pipeline must have one")
        if not self.steps:
            raise ValueError(f"steps: pipeline {self.name!r} has none")
        names = [check_step(step.name) for step in self.steps]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"steps: pipeline {self.name!r} has more than one step named {', '.join(twice)}")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}: it must be 1 or more")
