"""Asking a person: state the question, check each answer, and go on with the first that fits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final

from jsonschema import SchemaError
from jsonschema.validators import Draft202012Validator, validator_for
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from referencing import Registry
from referencing.exceptions import Unresolvable

from tailrace.workers.definition.backing import Backing
from tailrace.workers.definition.problems import MAX_PROBLEMS, problems_of
from tailrace.workers.errors import AnswerInvalidError

Schema = dict[str, Any] | type[Any]
"""A JSON Schema, or a type that pydantic can check, such as a model."""

Check = Callable[[Any], Any]

MAX_PROBLEM_CHARS: Final = 300
_PLAIN_STEP: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
# Without dots, so that no two steps' questions meet; and no number, which is what those without a key have.
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", re.ASCII)


async def ask(backing: Backing, name: str, question: Any, schema: Schema | None) -> Any:
    """Raises ValueError for a schema that cannot be used."""
    shown, check = _checked_by(schema)
    kept = await backing.open_question(name, question, shown)
    if kept is not None:
        return check(kept.data)
    while True:
        answer = await backing.next_answer(name)
        try:
            value = check(answer.data)
        except AnswerInvalidError as error:
            await backing.reject(name, answer, error.problems)
            continue
        await backing.resolve(name, answer)
        return value


def name_of(step: str, key: str | int) -> str:
    """The question's name, the same in every attempt, and fit for a URL whatever the step is called."""
    if isinstance(key, str) and not _KEY.fullmatch(key):
        raise ValueError(f"key is {key[:80]!r}: it is a letter or '_', and up to 63 letters, digits, '_' and '-'")
    if not _PLAIN_STEP.fullmatch(step):
        step = f"step-{hashlib.sha256(step.encode()).hexdigest()[:12]}"
    return f"{step}.{key}"


def _checked_by(schema: Schema | None) -> tuple[dict[str, Any] | None, Check]:
    if schema is None:
        return None, lambda data: data
    if isinstance(schema, dict):
        return schema, _by_json_schema(schema)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(schema)
        return adapter.json_schema(), _by_type(adapter)
    except PydanticUserError as error:
        raise ValueError(f"schema: {error.message}") from None


def _by_json_schema(schema: dict[str, Any]) -> Check:
    kind = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"schema: {error.json_path}: {error.message[:MAX_PROBLEM_CHARS]}") from None
    # An empty registry: what a schema refers to is never fetched from anywhere.
    validator = kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)

    def check(data: Any) -> Any:
        try:
            problems = [
                f"{error.json_path.replace('$', 'answer', 1)}: {error.message[:MAX_PROBLEM_CHARS]}"
                for error, _ in zip(validator.iter_errors(data), range(MAX_PROBLEMS), strict=False)
            ]
        except Unresolvable as error:
            raise ValueError(f"schema: refers to what is not in it: {error}") from None
        except RecursionError:
            problems = ["answer: is nested too deeply"]
        if problems:
            raise AnswerInvalidError(problems)
        return data

    return check


def _by_type(adapter: TypeAdapter[Any]) -> Check:
    def check(data: Any) -> Any:
        try:
            return adapter.validate_python(data)
        except ValidationError as error:
            raise AnswerInvalidError(problems_of(error, "answer")) from None

    return check
