"""Variables ``TAILRACE_*`` of the environment that nothing reads: misspelt ones would be ignored silently."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Final

from pydantic_settings import BaseSettings

from tailrace.bus import BusSettings
from tailrace.bus.ops.supervised import VARIABLE as SUPERVISOR
from tailrace.cli.client.token import VARIABLE as TOKEN
from tailrace.cli.processes.parent_pipe import VARIABLE as PARENT_PIPE
from tailrace.workers import WorkerSettings

logger = logging.getLogger(__name__)

PREFIX: Final = "TAILRACE_"
# Of the command line, and of the project's own tests.
_OTHERS: Final = (PARENT_PIPE, SUPERVISOR, TOKEN, "TAILRACE_GATEWAY", "TAILRACE_DEBUG", "TAILRACE_CI_REQUIRE")
_TESTS: Final = "TAILRACE_TEST_"


def warn_of_unknown(environment: Mapping[str, str]) -> None:
    """One environment may be for gateways, workers and commands alike: what any of them reads is known."""
    if not unknown(environment, _variables(BusSettings, WorkerSettings)):
        return
    # Only now: it brings in all of the gateway's framework, which a worker does not need.
    from tailrace.gateway.settings import GatewaySettings  # noqa: PLC0415 - see above

    known = _variables(BusSettings, WorkerSettings, GatewaySettings)
    for name in unknown(environment, known):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        logger.warning("%s is not a setting of Tailrace and has no effect%s", name, hint)


def _variables(*settings: type[BaseSettings]) -> frozenset[str]:
    return frozenset((*(f"{PREFIX}{field.upper()}" for each in settings for field in each.model_fields), *_OTHERS))


def unknown(environment: Iterable[str], known: Iterable[str]) -> list[str]:
    """Pure. Names count in any case, as they do for the settings."""
    taken = {name.upper() for name in known}
    given = (name for name in environment if name.upper().startswith(PREFIX))
    return sorted(name for name in given if name.upper() not in taken and not name.upper().startswith(_TESTS))
