"""A pipeline as a JSON document: checked, and made into a Pipeline of steps that this worker knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from tailrace.workers.definition.condition import Condition
from tailrace.workers.definition.pipeline import MAX_ATTEMPTS, Node, Parallel, Pipeline, Sequential, Step
from tailrace.workers.definition.problems import sentence_of
from tailrace.workers.definition.step_registry import StepRegistry
from tailrace.workers.definition.streaming import Streaming
from tailrace.workers.errors import PipelineInvalidError

MAX_STEPS: Final = 256
MAX_DEPTH: Final = 8
MAX_FILE_BYTES: Final = 1024 * 1024

KINDS: Final = ("step", "sequence", "parallel")

Seconds = Annotated[float, Field(gt=0, le=30 * 24 * 3600, allow_inf_nan=False)]
Retries = Annotated[int, Field(ge=0, le=100)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StepBlueprint(_Part):
    """``run`` is the registered step, the step's own name if it is left out. A string stands for a name alone."""

    name: str = Field(min_length=1, max_length=256)
    run: str | None = None
    options: dict[str, Any] | None = None
    when: Condition | None = None
    timeout_seconds: Seconds | None = None
    retries: Retries = 0
    retry_delay_seconds: Seconds = 0.5

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class SequentialBlueprint(_Part):
    sequence: tuple[AnyBlueprint, ...] = Field(min_length=1, max_length=MAX_STEPS)


class ParallelBlueprint(_Part):
    parallel: tuple[AnyBlueprint, ...] = Field(min_length=1, max_length=MAX_STEPS)


def _kind(value: object) -> str:
    if isinstance(value, ParallelBlueprint) or (isinstance(value, Mapping) and "parallel" in value):
        return "parallel"
    if isinstance(value, SequentialBlueprint) or (isinstance(value, Mapping) and "sequence" in value):
        return "sequence"
    return "step"


AnyBlueprint = Annotated[
    Annotated[StepBlueprint, Tag("step")]
    | Annotated[SequentialBlueprint, Tag("sequence")]
    | Annotated[ParallelBlueprint, Tag("parallel")],
    Discriminator(_kind),
]


class Blueprint(_Part):
    """The document. ``input`` is for one that is submitted: what its steps get as ``given``."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    steps: tuple[AnyBlueprint, ...] = Field(min_length=1, max_length=MAX_STEPS)
    streaming: Streaming = Streaming()
    timeout_seconds: Seconds | None = None
    max_attempts: int = Field(MAX_ATTEMPTS, ge=1, le=100)
    retries: Retries = 0
    retry_delay_seconds: Seconds = 1.0
    input: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _not_too_deep(cls, value: object) -> object:
        if _depth(value) > MAX_DEPTH:
            raise ValueError(f"groups are nested more than {MAX_DEPTH} deep")
        return value

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        count = sum(map(_count, self.steps))
        if count > MAX_STEPS:
            raise ValueError(f"steps: there are {count}, {MAX_STEPS} is the most")
        return self

    def pipeline(self, known: StepRegistry) -> Pipeline:
        """Raises PipelineInvalidError that names the field and the cure."""
        try:
            return Pipeline(
                self.name,
                tuple(_node(part, f"steps.{index}", known) for index, part in enumerate(self.steps)),
                max_attempts=self.max_attempts,
                timeout_seconds=self.timeout_seconds,
                retries=self.retries,
                retry_delay_seconds=self.retry_delay_seconds,
                streaming=self.streaming,
            )
        except PipelineInvalidError:
            raise
        except ValueError as error:
            raise PipelineInvalidError(str(error)) from None


def pipeline_from(document: Mapping[str, Any], steps: StepRegistry) -> Pipeline:
    """Make a pipeline of a document. Raises PipelineInvalidError that names the field and the cure."""
    try:
        return Blueprint.model_validate(document).pipeline(steps)
    except ValidationError as error:
        raise PipelineInvalidError(sentence_of(error, tags=KINDS)) from None


def pipeline_from_file(path: str | Path, steps: StepRegistry) -> Pipeline:
    """The same from a JSON file. Raises PipelineInvalidError, also for a file that cannot be read."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PipelineInvalidError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if len(text) > MAX_FILE_BYTES:
        raise PipelineInvalidError(f"{str(path)!r} has more than {MAX_FILE_BYTES} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PipelineInvalidError(f"{str(path)!r} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise PipelineInvalidError(f"{str(path)!r} holds no JSON object")
    return pipeline_from(document, steps)


def _node(part: StepBlueprint | SequentialBlueprint | ParallelBlueprint, field: str, known: StepRegistry) -> Node:
    match part:
        case SequentialBlueprint():
            return Sequential(*(_node(each, f"{field}.sequence.{n}", known) for n, each in enumerate(part.sequence)))
        case ParallelBlueprint():
            return Parallel(*(_node(each, f"{field}.parallel.{n}", known) for n, each in enumerate(part.parallel)))
        case StepBlueprint():
            return _step(part, field, known)


def _step(part: StepBlueprint, field: str, known: StepRegistry) -> Step:
    name = part.run or part.name
    if name not in known:
        at = f"{field}.{'run' if part.run else 'name'}"
        names = ", ".join(sorted(known)) or "none"
        raise PipelineInvalidError(f"{at}: there is no step {name[:128]!r} on this worker; it knows: {names}")
    step = known[name]
    try:
        return Step(
            part.name,
            step.run,
            process=step.process,
            timeout_seconds=part.timeout_seconds,
            retries=part.retries,
            retry_delay_seconds=part.retry_delay_seconds,
            when=part.when,
            options=_options(step.parameters, part.options),
        )
    except ValueError as error:
        raise PipelineInvalidError(f"{field}: {error}") from None


def _options(parameters: Any, options: dict[str, Any] | None) -> dict[str, Any] | None:
    """None given to a function that wants some: it takes its defaults, or says what is missing."""
    return {} if options is None and parameters is not None and parameters.options is not None else options


def _count(part: Any) -> int:
    return sum(map(_count, getattr(part, "parallel", ()) or getattr(part, "sequence", ()))) or 1


def _depth(value: object) -> int:
    """Of groups within groups; asked before they are read, because reading them recurses."""
    deepest, parts = 0, [(value, 0)]
    while parts:
        part, depth = parts.pop()
        deepest = max(deepest, depth)
        if depth > MAX_DEPTH:
            break
        if isinstance(part, Mapping):
            for name in ("steps", "parallel", "sequence"):
                within = part.get(name)
                if isinstance(within, list | tuple):
                    parts += [(each, depth + 1) for each in within]
    return deepest
