"""The part of JSON Schema that a question from a request may use.

What is left out can cost more than any worker has: a pattern may backtrack for ever, references may double at each
level, and so may unevaluated members. All of these are fine in a schema that the operator's own code gives.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_DEPTH: Final = 16

Kind = Literal["null", "boolean", "object", "array", "number", "integer", "string"]
Size = Annotated[int, Field(ge=0)]


class AnswerSchema(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=False)

    title: str | None = None
    description: str | None = None
    type: Kind | list[Kind] | None = None
    enum: list[Any] | None = None
    const: Any = None
    default: Any = None
    examples: list[Any] | None = None
    format: str | None = None
    properties: dict[str, AnswerSchema] | None = None
    required: list[str] | None = None
    additionalProperties: bool | AnswerSchema | None = None  # noqa: N815 - as JSON Schema spells it
    minProperties: Size | None = None  # noqa: N815
    maxProperties: Size | None = None  # noqa: N815
    items: AnswerSchema | None = None
    minItems: Size | None = None  # noqa: N815
    maxItems: Size | None = None  # noqa: N815
    minLength: Size | None = None  # noqa: N815
    maxLength: Size | None = None  # noqa: N815
    minimum: float | None = None
    maximum: float | None = None
    exclusiveMinimum: float | None = None  # noqa: N815
    exclusiveMaximum: float | None = None  # noqa: N815
    anyOf: list[AnswerSchema] | None = None  # noqa: N815
    oneOf: list[AnswerSchema] | None = None  # noqa: N815
    allOf: list[AnswerSchema] | None = None  # noqa: N815
    negated: AnswerSchema | None = Field(None, alias="not")

    @property
    def depth(self) -> int:
        within = [
            *(self.properties or {}).values(),
            *(self.anyOf or []),
            *(self.oneOf or []),
            *(self.allOf or []),
            self.items,
            self.negated,
            self.additionalProperties,
        ]
        return 1 + max((each.depth for each in within if isinstance(each, AnswerSchema)), default=0)

    @model_validator(mode="after")
    def _not_too_deep(self) -> Self:
        if self.depth > MAX_DEPTH:
            raise ValueError(f"is nested {self.depth} deep: {MAX_DEPTH} is the most")
        return self

    @property
    def plain(self) -> dict[str, Any]:
        """As it was given."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
