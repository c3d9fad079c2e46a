from __future__ import annotations

from tests.integration.gateway.conftest import bus, client, gateway_url

__all__ = ["bus", "client", "gateway_url"]
