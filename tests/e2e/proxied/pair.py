"""Two gateways that die and come back where they were."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from urllib.parse import urlsplit

from tests.integration.gateway.live import GatewayProcess


class Pair:
    def __init__(self, stack: ExitStack, **settings: str) -> None:
        self._stack = stack
        self._settings = settings
        self._gateways = [stack.enter_context(GatewayProcess(**settings)) for _ in range(2)]
        self.urls = [gateway.url() for gateway in self._gateways]

    def end(self, number: int, order: signal.Signals) -> int:
        gateway = self._gateways[number]
        gateway.signal(order)
        return gateway.wait()[0]

    def bring_back(self, number: int) -> None:
        port = str(urlsplit(self.urls[number]).port)
        gateway = self._gateways[number] = self._stack.enter_context(GatewayProcess(**self._settings, port=port))
        assert gateway.url() == self.urls[number]
