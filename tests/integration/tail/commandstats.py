"""What Redis says it was made to do."""

from __future__ import annotations

from collections import Counter

import redis

from tests.servers import RunningServer


def calls(server: RunningServer) -> Counter[str]:
    """Commands run since the server's start, by name in lower case."""
    with redis.Redis.from_url(server.url) as client:
        stats = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()})
