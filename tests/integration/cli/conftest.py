from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tailrace.cli.processes.local import announced_url
from tests.integration.cli.processes import Family, family


@dataclass(frozen=True)
class Site:
    """One gateway and one worker that may run commands, on the shared Valkey, under a prefix of their own."""

    gateway: str
    redis_url: str
    env: dict[str, str]


@pytest.fixture(scope="module")
def site(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    env = {"TAILRACE_PREFIX": f"t{uuid4().hex[:8]}"}
    logs = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        worker = stack.enter_context(
            family(
                logs / "worker", "worker", "--redis-url", server_url, "--allow-command", "--document-root", "/", env=env
            )
        )
        gateway = start_gateway(stack, logs / "gateway", server_url, env)
        worker.await_words("worker ready")
        yield Site(url_of(gateway), server_url, env)


def start_gateway(stack: ExitStack, output: Path, redis_url: str, env: dict[str, str]) -> Family:
    return stack.enter_context(family(output, "gateway", "--port", "0", "--redis-url", redis_url, env=env))


def url_of(gateway: Family) -> str:
    url = announced_url(gateway.await_words("gateway ready at"))
    assert url is not None
    return url
