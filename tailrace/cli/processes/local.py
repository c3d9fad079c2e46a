"""A gateway and a worker as processes of this machine."""

from __future__ import annotations

import re
from typing import Final

import httpx

from tailrace.cli.processes.children import Child, Children, wait_ready

PROBE_SECONDS: Final = 2.0


async def start_gateway(
    children: Children, name: str, redis_url: str, *, host: str = "127.0.0.1", port: int = 0
) -> tuple[Child, str]:
    """Start one, wait until it is ready, and return it with its URL. Port 0 is a free one. Raises ChildError."""
    child = children.start(name, "gateway", "--host", host, "--port", str(port), "--redis-url", redis_url)
    async with httpx.AsyncClient(trust_env=False, timeout=PROBE_SECONDS) as client:

        async def is_ready() -> bool:
            url = announced_url(child.said())
            if url is None:
                return False
            try:
                return (await client.get(f"{url}/readyz")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        await wait_ready(child, is_ready)
    return child, announced_url(child.said()) or ""


def start_worker(children: Children, name: str, redis_url: str, *options: str) -> Child:
    return children.start(name, "worker", "--redis-url", redis_url, *options)


def announced_url(said: str) -> str | None:
    """Where a gateway says that it listens: with port 0 only it knows the number, and the port is taken."""
    found = _ANNOUNCEMENT.search(said)
    return found[1] if found else None


_ANNOUNCEMENT: Final = re.compile(r"^gateway ready at (https?://\S+)", re.MULTILINE)
