"""When a step is to run, as data: a comparison of the input or of an output. Pure; nothing in it is code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from tailrace.workers.definition.outputs import Outputs

MAX_DEPTH: Final = 8
_MISSING: Final = object()
_COMPARISONS: Final = ("equals", "not_equals", "one_of", "exists", "more_than", "at_least", "less_than", "at_most")
_GROUPS: Final = ("all", "any", "not")


# An int stays one: as a float, 2**53 + 1 would be 2**53.
Number = int | FiniteFloat


class Condition(BaseModel):
    """Compares one value, or joins conditions by ``all``, ``any`` or ``not``.

    The value is that of ``path`` (members and list positions, joined by dots) in the output of ``step``; in the input
    if no step is named. What is not there counts as null, and is neither more nor less than anything.

    Values compare as JSON does, at any depth: true is not 1, 1 is 1.0, the order of an object's members does not
    count. Numbers compare exactly. NaN and the infinities are null, as in the log.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    step: str | None = Field(None, description="whose output the value is in; the input, if none is named")
    path: str = Field("", description="members and list positions, joined by dots")
    equals: Any = Field(None, description="the value is this")
    not_equals: Any = Field(None, description="the value is not this")
    one_of: tuple[Any, ...] | None = Field(None, description="the value is one of these")
    exists: bool | None = Field(None, description="whether the value is there at all")
    more_than: Number | None = Field(None, description="the value is a number above this")
    at_least: Number | None = Field(None, description="a number that is this or above")
    less_than: Number | None = Field(None, description="a number below this")
    at_most: Number | None = Field(None, description="a number that is this or below")
    all_of: Annotated[
        tuple[Condition, ...] | None, Field(alias="all", min_length=1, description="each of these holds")
    ] = None
    any_of: Annotated[
        tuple[Condition, ...] | None, Field(alias="any", min_length=1, description="one of these holds")
    ] = None
    negated: Annotated[Condition | None, Field(alias="not", description="this does not hold")] = None

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        asked = self._asked
        if len(asked) != 1:
            names = ", ".join((*_COMPARISONS, *_GROUPS))
            raise ValueError(f"has {' and '.join(asked) or 'no comparison'}: give exactly one of {names}")
        if asked[0] in _GROUPS and self.model_fields_set & {"step", "path"}:
            raise ValueError(f"has a step or path beside {asked[0]}: put it into the conditions within")
        if self.depth > MAX_DEPTH:
            raise ValueError(f"is nested {self.depth} deep: {MAX_DEPTH} is the most")
        return self

    def __call__(self, input_value: Any, outputs: Outputs) -> bool:
        if self.all_of is not None:
            return all(each(input_value, outputs) for each in self.all_of)
        if self.any_of is not None:
            return any(each(input_value, outputs) for each in self.any_of)
        if self.negated is not None:
            return not self.negated(input_value, outputs)
        found = _found(input_value if self.step is None else outputs.get(self.step), self.path)
        return self._holds(found)

    @property
    def depth(self) -> int:
        return 1 + max((each.depth for each in self._parts), default=0)

    @property
    def steps(self) -> frozenset[str]:
        """The steps whose outputs it reads."""
        own = {self.step} - {None}
        return frozenset(str(name) for name in own).union(*(each.steps for each in self._parts))

    @property
    def _parts(self) -> Iterator[Condition]:
        yield from self.all_of or ()
        yield from self.any_of or ()
        if self.negated is not None:
            yield self.negated

    @property
    def _asked(self) -> list[str]:
        fields_set = self.model_fields_set
        fields = [*_COMPARISONS, "all_of", "any_of", "negated"]
        return [
            name
            for field, name in zip(fields, (*_COMPARISONS, *_GROUPS), strict=True)
            # null is something to compare with, but no list, number or condition.
            if field in fields_set and (field in {"equals", "not_equals"} or getattr(self, field) is not None)
        ]

    def _holds(self, found: Any) -> bool:
        match self._asked[0]:
            case "exists":
                return (found is not _MISSING) is self.exists
            case "equals":
                return _same(found, self.equals)
            case "not_equals":
                return not _same(found, self.not_equals)
            case "one_of":
                return any(_same(found, each) for each in self.one_of or ())
        found = _in_json(found)
        if not _is_number(found):
            return False
        return (
            (self.more_than is not None and found > self.more_than)
            or (self.at_least is not None and found >= self.at_least)
            or (self.less_than is not None and found < self.less_than)
            or (self.at_most is not None and found <= self.at_most)
        )


def value_at(value: Any, path: str) -> Any:
    """What stands at a path; None where nothing does."""
    found = _found(value, path)
    return None if found is _MISSING else found


def _found(value: Any, path: str) -> Any:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    for part in path.split(".") if path else ():
        if isinstance(value, Mapping):
            value = value.get(part, _MISSING)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and part.isdecimal() and part.isascii():
            # Longer than any list's length: int() would take its time over a thousand digits.
            value = value[int(part)] if len(part) < 10 and int(part) < len(value) else _MISSING  # noqa: PLR2004
        else:
            return _MISSING
    return value


def _same(found: Any, expected: Any) -> bool:
    """Whether two values are one in JSON. Without recursion: both come from outside, and may be nested deeply."""
    waiting = [(found, expected)]
    while waiting:
        one, other = map(_in_json, waiting.pop())
        match one, other:
            case Mapping(), Mapping():
                if one.keys() != other.keys():
                    return False
                waiting += ((value, other[name]) for name, value in one.items())
            case [*_], [*_]:
                if len(one) != len(other):
                    return False
                waiting += zip(one, other, strict=True)
            case _:
                alike = type(one) is type(other) or (_is_number(one) and _is_number(other))
                if not (alike and one == other):
                    return False
    return True


def _in_json(value: Any) -> Any:
    if value is _MISSING or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
