"""What an owner shows with each append. Pure."""

from __future__ import annotations

from typing import Self


class Fence(int):
    """A number that orders owners, with the secret that identifies one: after a rewind, two may hold one number.

    The number is public; Redis and the owner alone know the secret.
    """

    secret: str

    def __new__(cls, number: int, secret: str) -> Self:
        fence = super().__new__(cls, number)
        fence.secret = secret
        return fence


def token_of(fence: int | None) -> str:
    """What the scripts are given: ``7:0f1e…``, or nothing for whoever owns nothing."""
    if fence is None:
        return ""
    return f"{int(fence)}:{fence.secret if isinstance(fence, Fence) else ''}"
