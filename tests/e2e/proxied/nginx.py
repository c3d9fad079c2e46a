"""An nginx in front of a gateway as Debian's package configures it: it buffers what it is not told to pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.e2e.proxied.proxy import Proxy, find
from tests.servers import free_port

_CONFIG: Final = """
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
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {gateway};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


class Nginx(Proxy):
    def __init__(self, gateway: str, directory: Path) -> None:
        binary, port = find("nginx", "nginx-light"), free_port()
        config = directory / "nginx.conf"
        config.write_text(_CONFIG.format(directory=directory, port=port, gateway=gateway))
        # One process: it does not change its user, so its folder need not be anybody else's.
        command = [binary, "-c", str(config), "-p", str(directory), "-g", "master_process off;"]
        super().__init__(f"http://127.0.0.1:{port}", command, directory / "nginx.out")
