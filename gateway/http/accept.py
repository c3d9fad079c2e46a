"""Which representation a client wants, by its Accept header. Pure.

Rule: RFC 9110, section 12.5.1: the most specific range that matches a media type gives its weight.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from starlette.datastructures import Headers

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", re.ASCII)

R = TypeVar("R")


def choose(accept: str | None, offered: Mapping[str, R], *, default: R) -> R | None:
    """Pick from media type → representation; the default where the client has no preference, None if nothing suits."""
    ranges = parse(accept) if accept and accept.strip() else {"*/*": 1.0}
    ranked = [(_rank(media_type, ranges), representation) for media_type, representation in offered.items()]
    best = max(rank for rank, _ in ranked)
    if best[0] == 0.0:
        return None
    favourites = [representation for rank, representation in ranked if rank == best]
    return default if default in favourites else favourites[0]


def accepted(headers: Headers) -> str | None:
    """All of its lines, which count as one (RFC 9110, section 5.3)."""
    return ", ".join(headers.getlist("accept")) or None


def parse(accept: str) -> dict[str, float]:
    """Media range → weight. A range that is malformed is as good as absent."""
    ranges: dict[str, float] = {}
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((given[2:] for given in parameters if given.startswith("q=")), "1")
        if media_range.count("/") == 1 and _WEIGHT.fullmatch(weight):
            ranges[media_range] = float(weight)
    return ranges


def _rank(media_type: str, ranges: Mapping[str, float]) -> tuple[float, int]:
    candidates = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    for unspecific, media_range in enumerate(candidates):
        if media_range in ranges:
            return ranges[media_range], -unspecific
    return 0.0, -len(candidates)
