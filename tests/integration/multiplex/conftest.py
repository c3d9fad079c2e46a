from __future__ import annotations

from tests.integration.gateway.conftest import both_ways, bus, client, gateway_url

__all__ = ["both_ways", "bus", "client", "gateway_url"]
