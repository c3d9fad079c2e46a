"""Times as people say them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from tailrace.cli.errors import CliError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGO: Final = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)


def age(ts: str | None, unix_seconds: float) -> str:
    """How long ago that was, in two units at most: 42s, 3m07s, 2h05m, 4d11h; nothing for no time."""
    if ts is None:
        return ""
    seconds = max(0, int(unix_seconds - datetime.fromisoformat(ts).timestamp()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days}d{hours % 24:02}h"
    if hours:
        return f"{hours}h{minutes % 60:02}m"
    return f"{minutes}m{seconds % 60:02}s" if minutes else f"{seconds}s"


def point_in_time(given: str, unix_seconds: float, *, option: str) -> str:
    """RFC 3339 in UTC, from that itself, from a date, or from how long ago, as in 90m. Raises CliError."""
    ago = _AGO.fullmatch(given)
    try:
        if ago is not None:
            now = datetime.fromtimestamp(unix_seconds, UTC)
            at = now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        else:
            at = datetime.fromisoformat(given)
            # Without an offset: as the clock on this wall shows.
            at = at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise CliError(
            f"{option}: {given!r} is not a time; as in 90m, 2d, 2026-01-02 or 2026-01-02T03:04:05Z"
        ) from None
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
