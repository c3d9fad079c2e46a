"""docs/python.md, made from the docstrings: ``python -m tests.unit.python_reference > docs/python.md``."""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

import tailrace
from tailrace import testing
from tests.unit.test_public_api import TREES, signature_of

HEAD: Final = """# Python

<!-- Made from the docstrings: python -m tests.unit.python_reference > docs/python.md -->

All public names, each with its arguments and the errors that it raises. They are imported from `tailrace`, those of the
last section from `tailrace.testing`; what stands deeper may move without notice. Times and durations are seconds, and
sizes bytes, unless a name ends in another unit, as `delay_ms` does. Cursors are texts, `<ms>-<n>`, or `Cursor`.

Errors are subclasses of `TailraceError`; [errors](errors.md) says what HTTP and WebSocket make of them.
"""
# What the trees of errors say beside a name.
IN_TREES: Final = {
    name: meaning.strip()
    for tree in TREES
    for name, meaning in re.findall(r"(\w+Error)(?: \(also \w+\))? {2,}(.+)", tree.__doc__ or "")
}
ROOMS: Final = (
    ("The bus", "tailrace.bus", "Appending, owning, following, submitting, and asking for things."),
    ("In an application", "tailrace.gateway.gateway", "See [Use it in your application](fastapi.md)."),
    ("Workers", "tailrace.workers", "See [Pipelines](pipelines.md) and [Subscribers](subscribers.md)."),
)


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, home, about in ROOMS:
        names = sorted(importlib.import_module(home).__all__, key=str.casefold)
        values = {name: getattr(tailrace, name) for name in names}
        errors = {name: value for name, value in values.items() if is_error(value)}
        parts.append(f"\n## {title}\n\n{about}\n")
        parts += [entry(name, value) for name, value in values.items() if name not in errors]
        parts.append(f"\n### Errors: {title[0].lower()}{title[1:]}\n\n| error | is a | |\n|---|---|---|\n")
        parts += [f"| `{name}` | {bases_of(value)} | {meaning_of(name, value)} |\n" for name, value in errors.items()]
    parts.append("\n## Tests\n\nSee [Tests of your own](fastapi.md#tests-of-your-own).\n")
    parts += [entry(name, getattr(testing, name)) for name in testing.__all__]
    return "".join(parts)


def is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def bases_of(kind: type) -> str:
    return ", ".join(f"`{base.__name__}`" for base in kind.__bases__)


def meaning_of(name: str, value: type) -> str:
    """What the tree of its family says of an error, and its own docstring."""
    return ". ".join(filter(None, [IN_TREES.get(name, ""), " ".join(doc_of(value).split())])).replace("|", "\\|")


def doc_of(value: Any) -> str:
    """A docstring as Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", inspect.cleandoc(value.__doc__ or ""))


def entry(name: str, value: Any) -> str:
    """A name's heading, its docstring, and what it has."""
    lines = [f"\n### {name}\n"]
    if isinstance(value, type):
        lines += class_of(name, value)
    elif inspect.isfunction(value):
        lines += [shown(name, value), paragraph(value)]
    else:
        lines.append(f"\n`{name}`: {plain(value)}\n")
    return "".join(lines)


def plain(value: Any) -> str:
    """A constant, or a name of a type."""
    return f"`{value!r}`".replace("tailrace.bus.model.", "") if len(repr(value)) < 400 else "see the source"


def class_of(name: str, kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield paragraph(kind)
        yield "\n" + ", ".join(f"`{member.name}`" for member in kind) + "\n"
        return
    if typing.is_typeddict(kind):
        yield paragraph(kind)
        yield "\n" + "".join(f"- `{each}: {text_of(of)}`\n" for each, of in kind.__annotations__.items())
        return
    if issubclass(kind, BaseModel):
        yield paragraph(kind)
        yield fields_of(kind)
        return
    if not getattr(kind, "_is_protocol", False):
        yield shown(name, kind)
    yield paragraph(kind)
    if kind.__init__.__doc__ and kind.__init__ is not object.__init__ and "help(type" not in kind.__init__.__doc__:
        yield f"\n{doc_of(kind.__init__)}\n"
    for member, value in members_of(kind):
        if isinstance(value, property):
            yield f"\n**`{name}.{member}`**\n{inherited(kind, member)}"
        else:
            yield f"{shown(f'{name}.{member}', value)}{inherited(kind, member)}"


def members_of(kind: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties that are ours, in the order of the source."""
    ours = [base for base in kind.__mro__ if base.__module__.startswith("tailrace")]
    seen: dict[str, None] = {}
    for base in ours:
        seen |= dict.fromkeys(name for name in vars(base) if not name.startswith("_"))
    for name in seen:
        value = inspect.getattr_static(kind, name)
        value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if inspect.isfunction(value) or isinstance(value, property):
            yield name, value


def fields_of(kind: type[BaseModel]) -> str:
    rows = [
        f"| `{name}` | `{text_of(field.annotation)}` | {(field.description or '').replace('|', chr(92) + '|')} |\n"
        for name, field in kind.model_fields.items()
    ]
    return f"\n| field | type | |\n|---|---|---|\n{''.join(rows)}"


def text_of(annotation: Any) -> str:
    shown_type = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    shown_type = re.sub(r"ForwardRef\('([^']*)'[^)]*\)", r"\1", shown_type)
    return re.sub(r"\b(?:typing|tailrace|collections|pydantic)\.(?:\w+\.)*", "", shown_type).replace("|", "\\|")


def shown(name: str, value: Any) -> str:
    signature = re.sub(r"(?<=[(\s])self(, )?", "", signature_of(value)) if "." in name else signature_of(value)
    return f"\n**`{name}{signature}`**\n"


def inherited(kind: type, member: str) -> str:
    """A member's docstring, or that of what it overrides."""
    docs = (doc_of(vars(base)[member]) for base in kind.__mro__ if member in vars(base))
    return f"\n{doc}\n" if (doc := next(filter(None, docs), "")) else ""


def paragraph(value: Any) -> str:
    return f"\n{doc}\n" if (doc := doc_of(value)) else ""


if __name__ == "__main__":
    sys.stdout.write(reference())
