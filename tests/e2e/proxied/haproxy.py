"""A haproxy in front of two gateways, configured as docs/running.md shows."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.proxied.proxy import Proxy, documented, find
from tests.integration.cli.processes import wait_until
from tests.servers import free_port


class Haproxy(Proxy):
    def __init__(self, gateways: Sequence[str], directory: Path) -> None:
        binary, port, self._stats_port = find("haproxy", "haproxy"), free_port(), free_port()
        first, second = (urlsplit(url).netloc for url in gateways)
        config = directory / "haproxy.cfg"
        config.write_text(
            documented("haproxy", {":8080": f"127.0.0.1:{port}", "127.0.0.1:8081": first, "127.0.0.1:8082": second})
        )
        # Where it says how it judges the gateways; haproxy reads both files as one.
        ours = directory / "ours.cfg"
        ours.write_text(f"global\n    stats socket ipv4@127.0.0.1:{self._stats_port} level operator\n")
        command = [binary, "-db", "-f", str(ours), "-f", str(config)]
        super().__init__(f"http://127.0.0.1:{port}", command, directory / "haproxy.log")

    def await_both_up(self) -> None:
        wait_until(lambda: self._states() == ["UP", "UP"], what=lambda: f"its servers are {self._states()}, not so")

    def serving(self, client_port: int) -> int:
        """Which of the gateways, 0 or 1, a client's connection from this port goes to."""
        session = next(line for line in self._asked("show sess") if f"src=127.0.0.1:{client_port} " in line)
        return next(
            number for number, server in enumerate(self._servers()) if f"srv={server['svname']} " in f"{session} "
        )

    def _states(self) -> list[str]:
        return [server["status"] for server in self._servers()]

    def _servers(self) -> list[dict[str, str]]:
        head, *lines = (line.split(",") for line in self._asked("show stat") if "," in line)
        rows = [dict(zip(head, line, strict=True)) for line in lines]
        return [row for row in rows if row["svname"] not in {"FRONTEND", "BACKEND"}]

    def _asked(self, command: str) -> list[str]:
        with socket.create_connection(("127.0.0.1", self._stats_port)) as asking:
            asking.sendall(f"{command}\n".encode())
            with asking.makefile() as answer:
                return answer.readlines()
