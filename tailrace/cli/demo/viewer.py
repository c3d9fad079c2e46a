"""One viewer of the demo: keeps everything it gets, to be judged at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing

import httpx

from tailrace.bus.model.event import TOKEN
from tailrace.cli.client.frame import Received
from tailrace.cli.client.watch import Connected, GatewayWatch, Item
from tailrace.cli.demo.verdict import Seen, fingerprint


class DemoViewer:
    def __init__(
        self,
        client: httpx.AsyncClient,
        gateways: Sequence[str],
        execution_id: str,
        on_item: Callable[[DemoViewer, Item], None],
    ) -> None:
        """Begins on the first gateway. ``on_item`` is told of everything, after it was noted."""
        self.watch = GatewayWatch(client, gateways, execution_id)
        self.seen = Seen()
        self.gateway: str | None = None
        self._on_item = on_item

    async def run(self) -> None:
        """Watch until the ending. Raises GatewayRequestError."""
        async with aclosing(self.watch.items()) as items:
            async for item in items:
                if isinstance(item, Received):
                    self._keep(item)
                elif isinstance(item, Connected):
                    self.gateway = item.gateway
                self._on_item(self, item)
        tally = self.watch.tally
        self.seen.resumes, self.seen.gaps = tally.resumes, tally.gaps

    def _keep(self, event: Received) -> None:
        self.seen.events.append(fingerprint(event.id, event.type, event.step, event.ts, event.data))
        if event.latency_seconds is not None:
            kind = self.seen.token_latencies if event.type == TOKEN else self.seen.latencies
            kind.append(event.latency_seconds)
