"""What a step's function asks for by its parameters, and how it gets that.

The first parameter is the context. Any other is named for what it gets: ``given`` (the pipeline's input), ``options``
(of the step), ``outputs`` (of all steps before, by name), or a step before (its output). Where one is annotated,
pydantic makes that type of it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from tailrace.workers.definition.outputs import Outputs
from tailrace.workers.definition.problems import sentence_of
from tailrace.workers.errors import StepInputInvalidError

OUTPUTS: Final = "outputs"
GIVEN: Final = "given"
OPTIONS: Final = "options"
_NO_NAME: Final = re.compile(r"\W")


@dataclass(frozen=True, slots=True)
class Parameter:
    """``source`` is one of the above, or the step's name as far as a parameter can spell it."""

    name: str
    source: str
    adapter: TypeAdapter[Any] | None
    is_positional: bool
    has_default: bool

    def made_of(self, step: str, value: Any) -> Any:
        """Raises StepInputInvalidError that names the field."""
        if self.adapter is None:
            return value
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            if isinstance(value, BaseModel):
                # Of another model than the pipeline's own: read it as it was submitted.
                return self.made_of(step, value.model_dump(mode="json", by_alias=True))
            root = {GIVEN: "input", OPTIONS: "options"}.get(self.source, f"the output of {self.source!r}")
            raise StepInputInvalidError(step, sentence_of(error, root)) from None


@dataclass(frozen=True, slots=True)
class Parameters:
    takes_context: bool
    plain_context: bool
    named: tuple[Parameter, ...]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        """Raises ValueError for a function that no step can call, with the cure."""
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise ValueError(f"run: {function!r} does not tell its parameters; wrap it into a function") from None
        every = list(signature.parameters.values())
        positional = [each for each in every if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
        context, rest = (
            (positional[0], [each for each in every if each is not positional[0]]) if positional else (None, every)
        )
        return cls(
            takes_context=context is not None,
            plain_context=context is not None and _names_plain_context(context.annotation),
            named=tuple(
                _parameter(function, each) for each in rest if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
            ),
        )

    @property
    def options(self) -> Parameter | None:
        return next((each for each in self.named if each.source == OPTIONS), None)

    def check(self, before: Collection[str]) -> None:
        """Raises ValueError for a parameter that no step of ``before`` can fill."""
        known = {OUTPUTS, GIVEN, OPTIONS, *map(spelled_as_parameter, before)}
        for each in self.named:
            if each.source not in known and not each.has_default:
                names = ", ".join([GIVEN, OPTIONS, OUTPUTS, *sorted(map(spelled_as_parameter, before))])
                raise ValueError(f"parameter {each.name!r} names nothing that it could get; there are: {names}")

    def arguments(self, step: str, given: Any, options: Any, outputs: Outputs) -> tuple[list[Any], dict[str, Any]]:
        """All but the context. Raises StepInputInvalidError."""
        values: dict[str, Any] = {spelled_as_parameter(name): output for name, output in outputs.items()}
        values |= {GIVEN: given, OPTIONS: options, OUTPUTS: outputs}
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for each in self.named:
            if each.source not in values:
                continue
            value = each.made_of(step, values[each.source])
            if each.is_positional:
                positional.append(value)
            else:
                named[each.name] = value
        return positional, named


def _parameter(function: Callable[..., Any], parameter: inspect.Parameter) -> Parameter:
    source = parameter.name.lstrip("_")
    return Parameter(
        parameter.name,
        source,
        None if source == OUTPUTS else _adapter(function, parameter),
        parameter.kind is parameter.POSITIONAL_ONLY,
        parameter.default is not parameter.empty,
    )


def _adapter(function: Callable[..., Any], parameter: inspect.Parameter) -> TypeAdapter[Any] | None:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        annotation = _evaluated(function, parameter.name, annotation)
    if annotation is parameter.empty or annotation is Any:
        return None
    try:
        return TypeAdapter(annotation)
    except PydanticUserError:
        raise ValueError(
            f"run: the parameter {parameter.name!r} is annotated with {annotation!r}, which pydantic cannot make of "
            "data; use a pydantic model, a dataclass or a built-in type"
        ) from None


def _evaluated(function: Callable[..., Any], name: str, annotation: str) -> Any:
    plain = inspect.unwrap(function)
    while hasattr(plain, "func"):
        plain = plain.func
    names: Mapping[str, Any] = getattr(plain, "__globals__", None) or getattr(type(plain).__call__, "__globals__", {})
    try:
        return eval(annotation, dict(names))  # noqa: S307 - the source of a function of the operator's own, as Python itself reads it
    except NameError as error:
        raise ValueError(
            f"run: the annotation of parameter {name!r} is not known at run time ({error}); "
            "define or import it at the top of the module"
        ) from None


def _names_plain_context(annotation: Any) -> bool:
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return name.rpartition(".")[2] == "PlainContext"


@lru_cache(maxsize=4096)
def spelled_as_parameter(step: str) -> str:
    """A step's name as a parameter can spell it."""
    return _NO_NAME.sub("_", step)
