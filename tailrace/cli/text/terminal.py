"""Where tables go."""

from __future__ import annotations

import sys
from typing import Final

from rich.console import Console

# Nothing is cut for who reads it through a pipe.
_PIPE_COLUMNS: Final = 1000


def console() -> Console:
    screen = Console(highlight=False, soft_wrap=False)
    return screen if sys.stdout.isatty() else Console(highlight=False, width=_PIPE_COLUMNS)
