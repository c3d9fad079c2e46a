"""What an owner shows with each append. Pure."""

from __future__ import annotations

from typing import Final, Self

# Lua's numbers are exact so far.
MAX_DIGITS: Final = 15


class Fence(int):
    """A number that orders owners, with the secret that identifies one: after a rewind, two may hold one number.

    The number is public; Redis and the owner alone know the secret.
    """

    secret: str

    def __new__(cls, number: int, secret: str) -> Self:
        fence = super().__new__(cls, number)
        fence.secret = secret
        return fence

    @property
    def token(self) -> str:
        """How it is shown to the scripts, and over HTTP."""
        return f"{int(self)}:{self.secret}"

    @classmethod
    def parse(cls, token: str) -> Self:
        """Read what ``token`` gives. Raises ValueError."""
        number, mark, secret = token.partition(":")
        if not (mark and secret and number.isascii() and number.isdecimal() and len(number) <= MAX_DIGITS):
            raise ValueError("expected the token of an execution's fence, as in 7:0f1e2d3c4b5a6978")
        return cls(int(number), secret)


def token_of(fence: int | None) -> str:
    """What the scripts are given: ``7:0f1e…``, or the empty string for a producer that is not the owner."""
    if fence is None:
        return ""
    return fence.token if isinstance(fence, Fence) else f"{int(fence)}:"
