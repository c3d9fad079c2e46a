from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tailrace.cli.exit_codes import ExitCode
from tailrace.cli.processes.children import Child, ChildError, Children, wait_ready
from tailrace.cli.processes.local import start_gateway, start_worker
from tests.integration.cli.processes import wait_until

pytestmark = pytest.mark.anyio


async def never() -> bool:
    return False


async def test_a_child_that_ends_before_it_is_ready_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    async with Children(tmp_path) as children:
        child = children.start("gateway", "gateway", "--port", "many")
        with pytest.raises(ChildError, match=r"the gateway ended with exit code 64; it said:\n.*'--port'") as refusal:
            await wait_ready(child, never)

    assert refusal.value.code is ExitCode.USAGE


async def test_a_child_that_takes_too_long_is_an_error(tmp_path: Path, server_url: str) -> None:
    async with Children(tmp_path) as children:
        child = start_worker(children, "worker", server_url)
        with pytest.raises(ChildError, match=r"the worker was not ready within 0\.2 s"):
            await wait_ready(child, never, timeout_seconds=0.2)


async def test_gateways_find_their_own_ports(tmp_path: Path, server_url: str) -> None:
    async with Children(tmp_path) as children:
        _, one = await start_gateway(children, "one", server_url)
        _, two = await start_gateway(children, "two", server_url)

        assert one != two


async def test_a_child_that_does_not_heed_is_killed(tmp_path: Path, server_url: str) -> None:
    async with Children(tmp_path, stop_seconds=0.5) as children:
        child, _ = await start_gateway(children, "gateway", server_url)
        os.kill(child.pid, signal.SIGSTOP)

    assert child.exit_code == -signal.SIGKILL


async def test_leaving_the_block_by_an_error_ends_all_children(tmp_path: Path, server_url: str) -> None:
    started: list[Child] = []

    async def fail_with_two_workers() -> None:
        async with Children(tmp_path) as children:
            started.extend(start_worker(children, f"worker {number}", server_url) for number in range(2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_with_two_workers()

    assert len(started) == 2
    assert not any(child.running for child in started)


async def test_a_child_imports_nothing_of_the_users_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bus", "tailrace", "typing", "workers"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(99)")
    monkeypatch.chdir(tmp_path)
    async with Children(tmp_path) as children:
        child = children.start("version", "--version")
        wait_until(lambda: not child.running)

    assert child.exit_code == 0
