"""What of a table has to be written anew. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Changes:
    """Fields to set and to delete, so that a hash becomes what it should be."""

    changed: dict[str, bytes] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)


def changes_between(written: Mapping[str, bytes], now: Mapping[str, bytes]) -> Changes:
    return Changes(
        {name: value for name, value in now.items() if written.get(name) != value},
        [name for name in written if name not in now],
    )
