"""A process that a test started, and that ends with it."""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import Any, Self


class Child:
    """Killed on leaving, if it is still there, and waited for."""

    _process: subprocess.Popen[Any]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._ended()

    def _ended(self) -> None:
        """Close what it spoke through."""
