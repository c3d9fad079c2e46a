"""Whether an answer fits a JSON Schema.

Both may come from requests, and a check costs about the product of their sizes. A cheap check is done here. Any other
is done in a process of its own, a few at a time, and the kernel ends that process at a limit. That process runs this
file by itself, so nothing of Tailrace is imported here: the import would cost more than most checks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from jsonschema import SchemaError
from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

logger = logging.getLogger(__name__)

MAX_PROBLEMS: Final = 5
MAX_PROBLEM_CHARS: Final = 300
# Nodes of the schema times nodes of the answer: some 10 ms.
MAX_PRODUCT_HERE: Final = 5_000
# Of a schema that is checked for itself; each of its nodes costs more than a comparison.
MAX_SCHEMA_HERE: Final = 100
PROCESSOR_SECONDS: Final = 5
# By the clock: on a busy machine a process waits for its turn.
WAIT_SECONDS: Final = 60
MEMORY_BYTES: Final = 1 << 29
_NICENESS: Final = 10
_CHARS_A_NODE: Final = 64
# Keywords that may cost more than the product: a pattern backtracks, references double at each level.
_UNBOUNDED: Final = frozenset(
    {
        "$dynamicRef",
        "$recursiveRef",
        "$ref",
        "pattern",
        "patternProperties",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    }
)
_TOO_DEEP: Final = ["answer: is nested too deeply"]
# Of the worker's environment the check needs nothing else, and Redis' password least.
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")
_PROCESSES: Final = ThreadPoolExecutor(2, thread_name_prefix="answer-check")


class AnswerChecks:
    """``given_up`` counts checks that met a limit."""

    def __init__(self, processor_seconds: int = PROCESSOR_SECONDS) -> None:
        self.given_up = 0
        self.processor_seconds = processor_seconds

    async def check_schema(self, schema: dict[str, Any]) -> None:
        """Raises ValueError for a schema that cannot be used."""
        if size_of(schema)[0] <= MAX_SCHEMA_HERE:
            check_schema(schema)
            return
        result = await self._apart({"schema": schema})
        if result is None:
            raise ValueError(f"schema: takes more than {self.processor_seconds} s to be read; use a smaller one")
        _problems_in(result)

    async def problems(self, schema: dict[str, Any], answer: Any) -> list[str]:
        """What is wrong with the answer, for the first few. Raises ValueError for a schema that cannot be used."""
        size, is_bounded = size_of(schema)
        if is_bounded and size * size_of(answer)[0] <= MAX_PRODUCT_HERE:
            return problems_of_answer(schema, answer)
        result = await self._apart({"schema": schema, "answer": answer})
        if result is None:
            return [f"answer: takes more than {self.processor_seconds} s to compare with the schema; make it smaller"]
        return _problems_in(result)

    async def _apart(self, order: dict[str, Any]) -> dict[str, Any] | None:
        """None when it met a limit."""
        try:
            text = json.dumps({**order, "processor_seconds": self.processor_seconds}).encode()
        except RecursionError:
            return {"problems": _TOO_DEEP}
        result = await asyncio.get_running_loop().run_in_executor(_PROCESSES, _done_apart, text)
        if result is None:
            self.given_up += 1
            logger.warning("gave up checking an answer against its schema: it met a limit of time or memory")
        return result


ANSWER_CHECKS: Final = AnswerChecks()


def check_schema(schema: dict[str, Any]) -> None:
    """Raises ValueError for a schema that cannot be used."""
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"schema: {error.json_path}: {error.message[:MAX_PROBLEM_CHARS]}") from None


def problems_of_answer(schema: dict[str, Any], answer: Any) -> list[str]:
    """Trusts that the schema was checked. Raises ValueError where it refers to what is not in it."""
    kind = validator_for(schema, default=Draft202012Validator)
    # An empty registry: what a schema refers to is never fetched from anywhere.
    validator = kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)
    try:
        return [
            f"{error.json_path.replace('$', 'answer', 1)}: {error.message[:MAX_PROBLEM_CHARS]}"
            for error, _ in zip(validator.iter_errors(answer), range(MAX_PROBLEMS), strict=False)
        ]
    except Unresolvable as error:
        raise ValueError(f"schema: refers to what is not in it: {error}") from None
    except RecursionError:
        return _TOO_DEEP


def size_of(value: Any) -> tuple[int, bool]:
    """How many nodes a JSON value has, long texts counting as several; and whether it has no unbounded keyword."""
    size, is_bounded = 0, True
    waiting = [value]
    while waiting:
        each = waiting.pop()
        size += 1
        if isinstance(each, str):
            size += len(each) // _CHARS_A_NODE
        elif isinstance(each, Mapping):
            # The names of an object's members are compared, too.
            size += len(each)
            is_bounded = is_bounded and _UNBOUNDED.isdisjoint(each) and each.get("format") != "regex"
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
    return size, is_bounded


def _problems_in(result: Mapping[str, Any]) -> list[str]:
    if "unusable" in result:
        raise ValueError(result["unusable"])
    problems: list[str] = result["problems"]
    return problems


def _done_apart(order: bytes) -> dict[str, Any] | None:
    entry = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
    try:
        done = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {entry}"],
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            input=order,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_SECONDS,
            start_new_session=True,
            check=False,
        )
        result: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return result


def main() -> None:
    """In the process: read the order, and write what came of it. A limit of the kernel ends it without a word."""
    order = json.loads(sys.stdin.buffer.read())
    os.nice(_NICENESS)
    signal.alarm(WAIT_SECONDS)
    seconds = order["processor_seconds"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    # macOS knows the limit, and does not let it be set.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        check_schema(order["schema"])
        result: dict[str, Any] = {
            "problems": problems_of_answer(order["schema"], order["answer"]) if "answer" in order else []
        }
    except ValueError as error:
        result = {"unusable": str(error)}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
