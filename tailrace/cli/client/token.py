"""The credential that gateways are shown."""

from __future__ import annotations

import os
import re
from typing import Final

from tailrace.cli.errors import CliError

VARIABLE: Final = "TAILRACE_TOKEN"
# RFC 6750, section 2.1.
_BEARER: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)


def token() -> str | None:
    """A JWT or an API key; None when there is none. Raises CliError, which does not repeat it."""
    given = os.environ.get(VARIABLE, "").strip()
    if given and not _BEARER.fullmatch(given):
        raise CliError(
            f"{VARIABLE}: is neither a JWT nor an API key; it contains characters that cannot be in a credential"
        )
    return given or None


def headers() -> dict[str, str]:
    given = token()
    return {} if given is None else {"Authorization": f"Bearer {given}"}
