"""Where the gateway's routes stand in the application that contains them, for the links in its answers."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Final

from starlette.types import Scope

# The first segments of our own routes: an execution may be called "v1".
_OURS: Final = re.compile(r"(.*)/v1/(?:executions|stream|activity|stats|clients|ws|tickets|revocations)(?:/|$)")
_base: ContextVar[str] = ContextVar("tailrace_base", default="")


def note_base(scope: Scope) -> None:
    """Take the base from a request to one of our routes: a prefix, a mount and ``root_path`` all show there."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    ours = _OURS.match(path)
    base = path.rpartition("/")[0] if ours is None else ours[1]
    # A proxy may have taken the root path off: ASGI servers differ in whether `path` has it.
    _base.set(base if f"{base}/".startswith(f"{root}/") else root + base)


def link(path: str) -> str:
    """The path of one of our routes as a client of the request in progress has to write it."""
    return _base.get() + path
