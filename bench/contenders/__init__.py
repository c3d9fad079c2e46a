"""Who is measured. The order is the order of the tables."""

from __future__ import annotations

from typing import Final

from bench.contenders.bare import Bare
from bench.contenders.centrifugo import Centrifugo
from bench.contenders.contender import Contender, Publishing, Running, Watching
from bench.contenders.embedded import EmbeddedHypercorn, EmbeddedLayered, EmbeddedUvicorn, OwnWire
from bench.contenders.handwritten import Handwritten
from bench.contenders.nchan import Nchan
from bench.contenders.tailrace import (
    TailraceBlocking,
    TailraceCoalescing,
    TailracePair,
    TailraceProcesses,
    TailraceSockets,
    TailraceTracking,
)

__all__ = ["ALL", "Contender", "Publishing", "Running", "Watching"]

ALL: Final[dict[str, Contender]] = {
    contender.name: contender
    for contender in (
        TailraceTracking(),
        TailraceBlocking(),
        TailraceCoalescing(),
        TailraceSockets(),
        TailracePair(),
        TailraceProcesses(),
        EmbeddedUvicorn(),
        OwnWire(),
        EmbeddedLayered(),
        EmbeddedHypercorn(),
        Bare(),
        Nchan(),
        Centrifugo(),
        Handwritten(),
    )
}
