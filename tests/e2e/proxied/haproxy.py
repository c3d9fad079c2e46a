"""A haproxy in front of gateways, round-robin, with the timeouts that one finds in the field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.e2e.proxied.proxy import Proxy, find
from tests.servers import free_port

_CONFIG: Final = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout tunnel 60s
    retries 3
    option redispatch
    retry-on conn-failure empty-response
frontend clients
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
    balance roundrobin
    option httpchk GET /readyz
    default-server check inter 100ms fall 1 rise 1
{servers}
"""


class Haproxy(Proxy):
    """Gateways may come and go; it asks their ``/readyz``."""

    def __init__(self, gateways: Sequence[str], directory: Path) -> None:
        binary, port = find("haproxy", "haproxy"), free_port()
        servers = "\n".join(f"    server gateway{n} {urlsplit(url).netloc}" for n, url in enumerate(gateways))
        config = directory / "haproxy.cfg"
        config.write_text(_CONFIG.format(port=port, servers=servers))
        super().__init__(f"http://127.0.0.1:{port}", [binary, "-db", "-f", str(config)], directory / "haproxy.log")
