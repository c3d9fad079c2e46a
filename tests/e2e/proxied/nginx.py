"""An nginx in front of gateways."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.e2e.proxied.proxy import Proxy, documented, find
from tests.servers import free_port

# Around what docs/running.md shows, as Debian's package has it; the folders are ours.
_AROUND: Final = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 500; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    gzip on;
    {site}
}}
"""

# It buffers what it is not told to pass on.
_BUFFERING: Final = """
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {gateway};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
"""


class Nginx(Proxy):
    def __init__(self, site: str, port: int, directory: Path) -> None:
        binary = find("nginx", "nginx-light")
        config = directory / "nginx.conf"
        config.write_text(_AROUND.format(directory=directory, site=site))
        # One process: it does not change its user, so its folder need not be anybody else's.
        command = [binary, "-c", str(config), "-p", str(directory), "-g", "master_process off;"]
        super().__init__(f"http://127.0.0.1:{port}", command, directory / "nginx.out")


def buffering_nginx(gateway: str, directory: Path) -> Nginx:
    port = free_port()
    return Nginx(_BUFFERING.format(port=port, gateway=gateway), port, directory)


def documented_nginx(gateways: Sequence[str], directory: Path) -> Nginx:
    port = free_port()
    first, second = (urlsplit(url).netloc for url in gateways)
    site = documented(
        "nginx", {"listen 8080": f"listen 127.0.0.1:{port}", "127.0.0.1:8081": first, "127.0.0.1:8082": second}
    )
    return Nginx(site, port, directory)
