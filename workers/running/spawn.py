"""Everything that reaches into multiprocessing.spawn: how a new process finds the modules of this one.

Its spawned processes get the same preparation: ``sys.path``, the working directory, and where the main module is.
"""

from __future__ import annotations

import multiprocessing.spawn
import pickle
from typing import Any


def preparation_for(name: str, *, needs_main: bool) -> bytes:
    """What ``prepare`` takes in the new process; without ``needs_main`` the main module is not imported there."""
    preparation: dict[str, Any] = multiprocessing.spawn.get_preparation_data(name)
    # A secret among processes of multiprocessing, which cannot be sent.
    preparation.pop("authkey", None)
    if not needs_main:
        preparation = {key: value for key, value in preparation.items() if not key.startswith("init_main")}
    return pickle.dumps(preparation)


def prepare(preparation: bytes) -> None:
    multiprocessing.spawn.prepare(pickle.loads(preparation))  # noqa: S301 - from the worker that started this process
