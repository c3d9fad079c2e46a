"""What ``tailrace`` offers is a promise: it changes on purpose or not at all.

``python tests/unit/test_public_api.py > tests/unit/public_api.txt`` writes it down anew.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from pydantic import BaseModel

import tailrace
from tailrace import testing
from tailrace.bus import errors as bus_errors
from tailrace.gateway import errors as gateway_errors
from tailrace.workers import errors as worker_errors
from tailrace.workers.builtin.document import errors as document_errors
from tailrace.workers.command import errors as command_errors

ROOT: Final = Path(__file__).parents[2]
WRITTEN: Final = Path(__file__).with_name("public_api.txt")
WEB: Final = ("fastapi", "starlette", "sse_starlette", "uvicorn", "httpx", "tailrace.gateway")


def signature_of(value: Any) -> str:
    """As it is written in the source, without quotes, and without the addresses of default objects."""
    try:
        shown = str(inspect.signature(value)).replace("'", "")
    except (TypeError, ValueError):
        return ""
    return re.sub(r" at 0x[0-9a-f]+", "", shown)


def members_of(kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield from (f"{kind.__name__}.{member.name}" for member in kind)
        return
    ours = [base for base in kind.__mro__ if base.__module__.startswith("tailrace")]
    for name in sorted({name for base in ours for name in vars(base) if not name.startswith("_")}):
        value = inspect.getattr_static(kind, name)
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if inspect.isfunction(value):
            yield f"{kind.__name__}.{name}{signature_of(value)}"
        elif isinstance(value, property):
            yield f"{kind.__name__}.{name}"


def described(home: ModuleType, name: str) -> Iterator[str]:
    value = getattr(home, name)
    if isinstance(value, type) and issubclass(value, BaseException):
        yield f"{name}({', '.join(base.__name__ for base in value.__bases__)})"
    elif typing.is_typeddict(value):
        yield f"{name}({', '.join(sorted(value.__annotations__))})"
    elif isinstance(value, type) and issubclass(value, BaseModel):
        yield f"{name}({', '.join(sorted(value.model_fields))})"
    elif isinstance(value, type):
        yield f"{name}{signature_of(value)}"
        yield from members_of(value)
    elif inspect.isfunction(value):
        yield f"{name}{signature_of(value)}"
    else:
        yield name


def public_api() -> str:
    names = [(tailrace, name) for name in sorted(tailrace.__all__)] + [(testing, name) for name in testing.__all__]
    return "".join(f"{line}\n" for home, name in names for line in described(home, name))


def test_public_names_and_their_signatures_are_exactly_those_written_down() -> None:
    assert public_api().splitlines() == WRITTEN.read_text().splitlines(), __doc__


def test_the_root_names_all_that_its_packages_name() -> None:
    homes = [importlib.import_module(f"tailrace.{name}") for name in ("bus", "workers", "gateway.gateway")]

    assert sorted(tailrace.__all__) == sorted(name for home in homes for name in home.__all__)
    assert set(tailrace.__all__) <= set(dir(tailrace))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tailrace' has no attribute 'no_such_name'"):
        tailrace.no_such_name  # type: ignore[attr-defined]  # noqa: B018 - reading it is the test


def test_a_type_checker_sees_every_name_as_what_it_is(tmp_path: Path) -> None:
    """Loaded on first use, they would be Any to it without the imports that only it reads."""
    program = tmp_path / "program.py"
    program.write_text(
        "import tailrace\n"
        + "".join(f"from tailrace import {name} as {name}\n" for name in tailrace.__all__)
        + "reveal_type(tailrace.open_bus)\nreveal_type(tailrace.Worker)\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout
    assert "tailrace.bus.bus.Bus" in checked.stdout
    assert "tailrace.workers.worker.worker.Worker" in checked.stdout


def modules_after(statement: str) -> set[str]:
    """Which modules a fresh interpreter has after it."""
    ran = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(ran.stdout.split())


def test_neither_the_bus_nor_a_worker_imports_a_web_framework() -> None:
    everything_of_a_worker = (
        "from tailrace.bus import *; from tailrace.workers import *; "
        "import tailrace.cli.commands.worker, tailrace.workers.worker.metrics"
    )

    found = modules_after(everything_of_a_worker)

    assert found >= {"tailrace.bus", "tailrace.workers"}
    # Parsers of documents are imported where documents are parsed, in a process of their own.
    assert found.isdisjoint({*WEB, "pypdf"})


def test_a_gateway_imports_no_client() -> None:
    """Only one that fetches keys needs one, and httpx alone takes as long to import as the bus."""
    assert modules_after("import tailrace.gateway.app").isdisjoint({"httpx", "rich"})


def test_importing_the_root_imports_none_of_its_packages() -> None:
    assert {name for name in modules_after("import tailrace") if name.startswith("tailrace.")} == set()


def test_importing_the_root_takes_less_than_a_tenth_of_importing_everything() -> None:
    """In CPU time, and of the root the best of three: a busy machine makes an import slower, and never quicker."""
    timed = "import time; begun = time.process_time(); {}; print(time.process_time() - begun)"

    def seconds(statement: str, times: int) -> float:
        ran = (subprocess.check_output([sys.executable, "-c", timed.format(statement)]) for _ in range(times))
        return min(map(float, ran))

    everything = seconds("import tailrace.bus, tailrace.workers, tailrace.gateway.app", 1)
    assert seconds("import tailrace", 3) < 0.1 * everything


def imports_of(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name.startswith("_"))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


PUBLIC: Final = re.compile(r"tailrace|tailrace\.testing|tailrace\.workers\.adapters\.[a-z]+")
APPLICATIONS: Final = [each.parent for each in sorted((ROOT / "examples").glob("*/main.py"))]
PYTHON: Final = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def programs() -> Iterator[tuple[str, str]]:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for number, block in enumerate(PYTHON.findall(page.read_text()), start=1):
            yield f"{page.relative_to(ROOT)} block {number}", block
    for path in (ROOT / "examples").rglob("*.py"):
        yield str(path.relative_to(ROOT)), path.read_text()


def test_no_page_and_no_example_imports_anything_deeper() -> None:
    found = [(place, name) for place, source in programs() for name in imports_of(source)]
    ours = [(place, name) for place, name in found if name == "tailrace" or name.startswith("tailrace.")]

    assert {place for place, name in ours if not PUBLIC.fullmatch(name)} == set()
    places = {place for place, _ in ours}
    for folder in APPLICATIONS:
        assert any(place.startswith(f"examples/{folder.name}/") for place in places), folder


TREES: Final = (bus_errors, worker_errors, gateway_errors, document_errors, command_errors)


def errors_of_the_packages() -> Iterator[type[BaseException]]:
    for package in ("bus", "workers", "gateway"):
        home = importlib.import_module(f"tailrace.{package}")
        for module in pkgutil.walk_packages(home.__path__, f"tailrace.{package}."):
            if module.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.name:
                    yield value


def test_every_error_is_drawn_in_a_tree_below_one_root() -> None:
    """But for those that are caught near where they are raised: the ones with an underscore, and one of a channel."""
    drawn = "".join(tree.__doc__ or "" for tree in TREES)
    found = {error for error in errors_of_the_packages() if not error.__name__.startswith("_")}

    assert len(found) > 60
    strangers = {error.__name__ for error in found if not issubclass(error, tailrace.TailraceError)}
    assert strangers == {"MessageTooLargeError"}
    assert {error.__name__ for error in found if not re.search(rf"\b{error.__name__}\b", drawn)} == strangers


if __name__ == "__main__":
    sys.stdout.write(public_api())
