"""What a token lets its bearer do. Pure."""

from __future__ import annotations

from typing import Final, Literal, get_args

# None of them implies another: a token says all that it is for.
Scope = Literal["read", "publish", "control", "submit", "admin"]

SCOPES: Final[frozenset[Scope]] = frozenset(get_args(Scope))
