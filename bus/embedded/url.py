from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from tailrace.bus.errors import InvalidInputError

SCHEME: Final = "embedded://"


def embedded_path(url: str) -> str | None:
    """What `start_embedded` takes.

    `embedded://` gives None, `embedded:///srv/bus` an absolute path, `embedded://data/bus` a relative one.
    Percent-encoding is decoded. Raises InvalidInputError.
    """
    if not url.startswith(SCHEME):
        raise InvalidInputError("url", f"must start with {SCHEME}")
    path = url.removeprefix(SCHEME)
    if "?" in path or "#" in path:
        raise InvalidInputError("url", f"{SCHEME} takes a path and nothing else; write ? as %3F and # as %23")
    return unquote(path) or None
