"""Asking a person: state the question, check each answer, and go on with the first that fits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from tailrace.workers.definition.answer_check import ANSWER_CHECKS
from tailrace.workers.definition.backing import Backing
from tailrace.workers.definition.problems import problems_of
from tailrace.workers.errors import AnswerInvalidError

Schema = dict[str, Any] | type[Any]
"""A JSON Schema, or a type that pydantic can check, such as a model."""

Check = Callable[[Any], Awaitable[Any]]

_PLAIN_STEP: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
# Without dots, so that no two steps' questions meet; and no number, which is what those without a key have.
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", re.ASCII)


async def ask(backing: Backing, name: str, question: Any, schema: Schema | None) -> Any:
    """Raises ValueError for a schema that cannot be used."""
    shown, check = await _checked_by(schema)
    kept = await backing.open_question(name, question, shown)
    if kept is not None:
        # It was checked when it was accepted; a type still has to be made of it.
        return kept.data if isinstance(schema, dict) else await check(kept.data)
    while True:
        answer = await backing.next_answer(name)
        try:
            value = await check(answer.data)
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


async def _checked_by(schema: Schema | None) -> tuple[dict[str, Any] | None, Check]:
    if schema is None:
        return None, _unchecked
    if isinstance(schema, dict):
        await ANSWER_CHECKS.check_schema(schema)
        return schema, _by_json_schema(schema)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(schema)
        return adapter.json_schema(), _by_type(adapter)
    except PydanticUserError as error:
        raise ValueError(f"schema: {error.message}") from None


async def _unchecked(data: Any) -> Any:
    return data


def _by_json_schema(schema: dict[str, Any]) -> Check:
    async def check(data: Any) -> Any:
        if problems := await ANSWER_CHECKS.problems(schema, data):
            raise AnswerInvalidError(problems)
        return data

    return check


def _by_type(adapter: TypeAdapter[Any]) -> Check:
    async def check(data: Any) -> Any:
        try:
            return adapter.validate_python(data)
        except ValidationError as error:
            raise AnswerInvalidError(problems_of(error, "answer")) from None

    return check
