"""What is to be done: named steps, one after the other or side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from tailrace.bus.model.event import check_step
from tailrace.workers.definition.condition import Condition
from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.parameters import Parameters, spelled_as_parameter
from tailrace.workers.definition.step_call import is_async
from tailrace.workers.definition.streaming import Streaming
from tailrace.workers.errors import StepInputInvalidError

MAX_ATTEMPTS: Final = 3
MAX_STEPS: Final = 1000

StepFunction = Callable[..., Any]
When = Callable[[Any, Outputs], bool]
"""Gets the input and the outputs of the steps before. Decide by these alone, so that every attempt decides alike."""


@dataclass(frozen=True, slots=True)
class Step:
    """``run`` gets the context and whatever else its parameters name, and gives the step's output.

    Its first parameter is the context. Another one is named ``given`` for the pipeline's input, ``options`` for the
    step's own, ``outputs`` for the outputs of all steps before, or as a step before for that one's output; what is
    annotated there is made of it by pydantic.

    Async; or a plain function, which runs in a thread, where ``ctx: PlainContext`` has the same calls without await;
    or either of them in a ``process`` of its own, which can be killed. A plain function in a thread cannot be
    cancelled: its thread goes on until it returns, or calls its context.

    A step may run again after a worker was lost. An output is made of what msgpack can hold (dicts, lists, strings,
    numbers, bytes; dataclasses and pydantic models become dicts), at most 1 MiB.

    ``timeout_seconds`` is the time of each try; waiting for a person's answer, for Redis or in a pause does not
    count. ``retries`` says how often it is tried again when it raises ``retry_on``, with growing waits from about
    ``retry_delay_seconds`` on, at most ``max_retry_delay_seconds``. ``when`` says whether it is to run at all.
    """

    name: str
    run: StepFunction
    _: KW_ONLY
    process: bool = False
    timeout_seconds: float | None = None
    retries: int = 0
    retry_delay_seconds: float = 0.5
    max_retry_delay_seconds: float = 60.0
    retry_on: tuple[type[Exception], ...] = (Exception,)
    when: When | None = None
    options: Any = None
    parameters: Parameters = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises ValueError for what could never run; InvalidEventError (one of these) for the name."""
        check_step(self.name)
        try:
            object.__setattr__(self, "parameters", Parameters.of(self.run))
            self._check()
        except ValueError as error:
            raise ValueError(f"step {self.name!r}: {error}") from None

    def _check(self) -> None:
        _check_seconds("timeout_seconds", self.timeout_seconds)
        _check_seconds("retry_delay_seconds", self.retry_delay_seconds)
        _check_seconds("max_retry_delay_seconds", self.max_retry_delay_seconds)
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}: it must be 0 or more")
        parameter = self.parameters.options
        if parameter is not None:
            try:
                parameter.made_of(self.name, self.options)
            except StepInputInvalidError as error:
                if not (parameter.has_default and self.options is None):
                    raise ValueError(str(error)) from None
        elif self.options is not None:
            raise ValueError("options: its function has no parameter of that name")
        if self.when is not None and is_async(self.when):
            # What it returns would be true, always.
            raise ValueError("when: must be a plain function, not an async one")
        if self.process and "<" in getattr(self.run, "__qualname__", ""):
            raise ValueError(
                "run: another process finds only what stands at the top of a module; move the function there"
            )

    @property
    def steps(self) -> Iterator[Step]:
        """All steps in it, in order."""
        yield self


@dataclass(frozen=True, slots=True, init=False)
class Sequential:
    """Nodes one after the other: a branch of a Parallel."""

    nodes: tuple[Node, ...]

    def __init__(self, *nodes: Node) -> None:
        object.__setattr__(self, "nodes", nodes)
        if not nodes:
            raise ValueError("a sequence has no steps")

    @property
    def steps(self) -> Iterator[Step]:
        """All steps in it, in order."""
        for node in self.nodes:
            yield from node.steps


@dataclass(frozen=True, slots=True, init=False)
class Parallel:
    """Nodes side by side. They see the outputs of what stands before the group, and none of each other's.

    When one fails, its siblings are cancelled and the group fails with its error.
    """

    nodes: tuple[Node, ...]

    def __init__(self, *nodes: Node) -> None:
        object.__setattr__(self, "nodes", nodes)
        if not nodes:
            raise ValueError("a parallel group has no steps")

    @property
    def steps(self) -> Iterator[Step]:
        """All steps in it, in order."""
        for node in self.nodes:
            yield from node.steps


Node = Step | Sequential | Parallel


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The output of the last step that was not skipped is the result; of a parallel group, all of its branches'.

    ``max_attempts`` is how often it is begun at all: 1 for what must not be repeated when a worker was lost half way.
    ``retries`` is how often it is queued again when it failed, for steps' own retries were not enough: it goes on
    from its checkpoints, after about ``retry_delay_seconds``, which double each time. ``timeout_seconds`` is the time
    of an attempt, as for steps; then it ends in ``execution.timed_out``.

    ``unfold`` is for a pipeline that its input decides: it gets the input and gives the pipeline to be run and the
    input of that one. It raises a WorkerError.
    """

    name: str
    steps: tuple[Node, ...] = ()
    input_model: type[BaseModel] | None = None
    max_attempts: int = MAX_ATTEMPTS
    _: KW_ONLY
    timeout_seconds: float | None = None
    retries: int = 0
    retry_delay_seconds: float = 1.0
    streaming: Streaming = field(default_factory=Streaming)
    unfold: Callable[[Any], tuple[Pipeline, Any]] | None = None

    @property
    def step_names(self) -> list[str]:
        """Of all steps, those in groups included, as they stand."""
        return [step.name for node in self.steps for step in node.steps]

    def __post_init__(self) -> None:
        """Raises ValueError for what could never run."""
        if not self.name:
            raise ValueError("name: a pipeline must have one")
        if bool(self.steps) is (self.unfold is not None):
            problem = "has some, and unfolds into others" if self.steps else "has none"
            raise ValueError(f"steps: pipeline {self.name!r} {problem}")
        names = self.step_names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"steps: pipeline {self.name!r} has more than one step named {', '.join(twice)}")
        _check_spelling(names)
        if len(names) > MAX_STEPS:
            raise ValueError(f"steps: pipeline {self.name!r} has {len(names)}, {MAX_STEPS} is the most")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}: it must be 1 or more")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}: it must be 0 or more")
        _check_seconds("timeout_seconds", self.timeout_seconds)
        _check_seconds("retry_delay_seconds", self.retry_delay_seconds)
        _check_order(self.steps, ())


def _check_spelling(names: list[str]) -> None:
    """A parameter names a step as far as it can spell it: two that are spelled alike could not be told apart."""
    spelled: dict[str, str] = {}
    for name in names:
        other = spelled.setdefault(spelled_as_parameter(name), name)
        if other != name:
            raise ValueError(
                f"steps: {other!r} and {name!r} are the same parameter, {spelled_as_parameter(name)!r}; rename one"
            )


def _check_order(nodes: tuple[Node, ...], before: tuple[str, ...]) -> tuple[str, ...]:
    """Each step may ask only for what was done before it. Returns what is done after them."""
    for node in nodes:
        match node:
            case Step():
                _check_asked(node, before)
                before = (*before, node.name)
            case Sequential():
                before = _check_order(node.nodes, before)
            case Parallel():
                # Side by side: each sees what stood before the group.
                branches = [_check_order((each,), before) for each in node.nodes]
                before = (*before, *(name for names in branches for name in names[len(before) :]))
    return before


def _check_asked(step: Step, before: tuple[str, ...]) -> None:
    try:
        step.parameters.check(before)
    except ValueError as error:
        raise ValueError(f"step {step.name!r}: {error}") from None
    if isinstance(step.when, Condition):
        unknown = sorted(step.when.steps - set(before))
        if unknown:
            names = ", ".join(before) or "none"
            raise ValueError(
                f"step {step.name!r}: when: names {', '.join(map(repr, unknown))}, which is not a step before it "
                f"(there are: {names})"
            )


def _check_seconds(name: str, seconds: float | None) -> None:
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"{name} is {seconds}: it must be more than 0 and finite")
