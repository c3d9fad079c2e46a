from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tailrace.cli.processes.deaths import MAX_DEATHS
from tests.integration.cli.processes import Family, call, family, wait_until

READY = "Ctrl-C ends everything."


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Family]:
    with family(tmp_path / "up", "up", "--port", "0", "--dir", str(tmp_path / "data"), "--allow-command") as started:
        started.await_words(READY)
        yield started


def test_pipelines_of_ones_own_run(tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text(
        "from tailrace import Pipeline, Registry, Step\n"
        "async def look(ctx, outputs):\n    return 22222\n"
        'registry = Registry([Pipeline("look", (Step("look", look),))])\n'
    )
    with family(tmp_path / "up", "up", "--port", "0", "--pipelines", "looking:registry", cwd=tmp_path) as up:
        up.await_words(READY)
        done = call("submit", "look", "--gateway", shown(up, "gateway"), "--follow", "--json")
        assert done.returncode == 0
        assert "22222" in done.stdout
        up.signal(signal.SIGINT)
        assert up.wait() == 0


def shown(up: Family, name: str) -> str:
    return next(line.split()[1] for line in up.said.splitlines() if line.startswith(name))


def test_all_of_it_runs_and_ctrl_c_ends_all_of_it(up: Family) -> None:
    done = call("submit", "command", 'argv=["echo", "hello"]', "--gateway", shown(up, "gateway"), "--follow")
    assert done.returncode == 0
    assert "hello" in done.stdout
    assert len(up.members()) == 5  # up, gateway, worker, the server and its supervisor

    up.signal(signal.SIGINT)

    assert up.wait() == 0
    up.await_nobody()
    assert "Traceback" not in up.said


def test_what_was_written_is_there_at_the_next_start(up: Family, tmp_path: Path) -> None:
    gateway = shown(up, "gateway")
    execution_id = call("submit", "command", 'argv=["true"]', "--gateway", gateway).stdout.strip()
    before = call("tail", execution_id, "--gateway", gateway, "--json")
    up.signal(signal.SIGTERM)
    assert up.wait() == 0

    with family(tmp_path / "again", "up", "--port", "0", "--dir", str(tmp_path / "data")) as again:
        again.await_words(READY)
        after = call("tail", execution_id, "--gateway", shown(again, "gateway"), "--json")
        again.signal(signal.SIGINT)
        again.wait()

    assert before.returncode == 0
    assert after.stdout == before.stdout


def test_killed_itself_it_leaves_nobody_behind(up: Family) -> None:
    given = json.dumps({"argv": ["sh", "-c", "trap '' TERM; sleep 300"]})
    call("submit", "command", "--input", given, "--gateway", shown(up, "gateway"))
    wait_until(lambda: any("sleep 300" in command for command in up.members().values()))

    up.signal(signal.SIGKILL)
    up.wait()

    up.await_nobody(seconds=12.0)


def test_a_worker_that_is_killed_is_started_again_and_does_what_is_submitted(up: Family) -> None:
    killed = up.member("-m tailrace worker")
    os.kill(killed, signal.SIGKILL)

    up.await_words("the worker was ended by SIGKILL; starting it again")
    done = call("submit", "command", 'argv=["echo", "hello"]', "--gateway", shown(up, "gateway"), "--follow")
    assert "hello" in done.stdout
    assert up.member("-m tailrace worker") != killed


def test_a_gateway_that_is_killed_is_started_again_at_the_same_address(up: Family) -> None:
    url = shown(up, "gateway")
    os.kill(up.member("-m tailrace gateway"), signal.SIGKILL)

    up.await_words("the gateway was ended by SIGKILL; starting it again")
    wait_until(lambda: call("ps", "--gateway", url).returncode == 0)


def test_a_part_that_dies_again_and_again_is_told_and_ends_the_rest(up: Family) -> None:
    for _ in range(MAX_DEATHS):
        killed = up.member("-m tailrace worker")
        os.kill(killed, signal.SIGKILL)
        wait_until(partial(is_over_or_has_another_worker, up, killed))

    assert up.wait() == 1
    assert "tailrace: the worker was ended by SIGKILL" in up.said
    up.await_nobody()


def test_attack_75_a_valkey_that_is_gone_for_good_is_started_again_with_its_data(up: Family) -> None:
    gateway = shown(up, "gateway")
    assert call("submit", "command", 'argv=["echo", "kept"]', "--gateway", gateway, "--follow").returncode == 0
    before = call("ps", "--gateway", gateway, "--json").stdout
    server, supervisor = up.member("valkey-server unixsocket:"), up.member("supervisor.py")
    for victim in (supervisor, server):
        os.kill(victim, signal.SIGKILL)

    up.await_words("Valkey has stopped; restarting it with its data")
    wait_until(lambda: call("ps", "--gateway", gateway, "--json").stdout == before)
    done = call("submit", "command", 'argv=["echo", "hello"]', "--gateway", gateway, "--follow")
    assert "hello" in done.stdout
    assert up.member("valkey-server unixsocket:") != server


def test_attack_75_a_valkey_that_cannot_be_started_again_ends_all_with_what_is_wrong(
    up: Family, tmp_path: Path
) -> None:
    [log] = (tmp_path / "data" / "appendonlydir").glob("*.incr.aof")
    for victim in (up.member("supervisor.py"), up.member("valkey-server unixsocket:")):
        os.kill(victim, signal.SIGKILL)
    log.unlink()

    assert up.wait() == 2
    assert f"tailrace: {log} is missing" in up.said
    up.await_nobody()


def is_over_or_has_another_worker(up: Family, killed: int) -> bool:
    workers = {pid for pid, command in up.members().items() if "-m tailrace worker" in command}
    return up.process.poll() is not None or bool(workers - {killed})


def test_a_second_one_in_the_same_directory_is_refused(up: Family, tmp_path: Path) -> None:
    done = call("up", "--port", "0", "--dir", str(tmp_path / "data"))

    assert done.returncode == 6
    assert "another 'tailrace up' is running in" in done.stderr
    assert up.process.poll() is None
