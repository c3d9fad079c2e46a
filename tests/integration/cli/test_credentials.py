"""A gateway that asks for credentials, and the token that the command line shows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.cli.conftest import start_gateway, url_of
from tests.integration.cli.processes import call


@pytest.fixture
def gateway(server_url: str, prefix: str, tmp_path: Path) -> Iterator[str]:
    env = {"TAILRACE_PREFIX": prefix, "TAILRACE_JWT_HS256_KEYS": SECRET}
    with ExitStack() as stack:
        yield url_of(start_gateway(stack, tmp_path / "gateway", server_url, env))


def test_a_tenants_token_submits_lists_and_cancels_its_own(gateway: str) -> None:
    way = ("--gateway", gateway)
    acme, other = ({"TAILRACE_TOKEN": Issuer().token(tenant=tenant)} for tenant in ("acme", "other"))
    submitted = call("submit", "document", "path=a.md", *way, env=acme)
    execution_id = submitted.stdout.strip()

    assert submitted.returncode == 0, submitted.stderr
    assert call("ps", *way, "--json", env=acme).stdout.count(execution_id) == 3  # itself, and in its links
    assert call("ps", *way, "--json", env=other).stdout == ""
    assert call("cancel", execution_id, *way, env=other).returncode == 5
    cancelled = call("cancel", execution_id, *way, "--wait", "20", env=acme)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"{execution_id}: cancelled\n")
    assert "by ann" in call("show", execution_id, *way, env=acme).stdout
    assert call("tail", execution_id, *way, env=acme).returncode == 1


@pytest.mark.parametrize("command", [("ps",), ("show", "x"), ("cancel", "x"), ("tail", "x"), ("submit", "document")])
def test_without_a_good_one_nothing_is_done_and_the_token_is_not_repeated(
    gateway: str, command: tuple[str, ...]
) -> None:
    for token in ("", "not-one-of-ours"):
        done = call(*command, "--gateway", gateway, env={"TAILRACE_TOKEN": token})
        assert (done.returncode, done.stdout) == (4, "")
        assert "TAILRACE_TOKEN" in done.stderr
        assert "not-one-of-ours" not in done.stderr
        assert done.stderr.count("\n") == 1
