"""Which steps a pipeline from JSON may name: these and no others, because the names come from requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tailrace.workers.definition.parameters import Parameters

F = TypeVar("F", bound=Callable[..., Any])

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class KnownStep:
    """A function under the name by which pipelines know it; its options are those of its parameter ``options``."""

    name: str
    run: Callable[..., Any]
    process: bool = False
    parameters: Parameters | None = None

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


class StepRegistry(Mapping[str, KnownStep]):
    """``@steps.step("fetch")`` above a function, or ``steps.add("fetch", function)``."""

    def __init__(self, known: Mapping[str, KnownStep] | None = None) -> None:
        self._known = dict(known or {})

    def add(self, name: str, run: Callable[..., Any], *, process: bool = False) -> None:
        """Raises ValueError for a name that is malformed or taken, or a function that no step can call."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a step name; expected lower-case words with dots, as in 'page.fetch'")
        if name in self._known:
            raise ValueError(f"there is a step {name!r} already")
        self._known[name] = KnownStep(name, run, process, Parameters.of(run))

    def step(self, name: str, *, process: bool = False) -> Callable[[F], F]:
        """Register the function below as a step: ``@steps.step("resize")``. Raises as ``add``."""

        def register(run: F) -> F:
            self.add(name, run, process=process)
            return run

        return register

    def joined(self, other: StepRegistry) -> StepRegistry:
        """Both together. Raises ValueError for a name that both have."""
        twice = sorted(self.keys() & other.keys())
        if twice:
            raise ValueError(f"steps: more than one is named {', '.join(twice)}")
        return StepRegistry({**self._known, **other._known})

    def __getitem__(self, name: str) -> KnownStep:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)
