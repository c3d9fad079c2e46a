from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import stat
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tailrace.bus.embedded import start_embedded, starter
from tailrace.bus.embedded.file_lock import try_exclusive
from tests.integration.embedded.processes import (
    is_alive,
    parent_pid,
    processes_of,
    server_pid,
    wait_until,
    zombie_children,
)
from tests.integration.embedded.user import REPOSITORY, User
from tests.servers import RunningServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "a bus, it's %41 #1"


def test_two_processes_share_one_server_and_the_last_to_close_stops_it(directory: Path) -> None:
    with User(directory) as first, User(directory) as second:
        url = first.ask("open")
        assert second.ask("open") == url
        assert first.ask("incr shared 10") == "10"
        assert second.ask("incr shared 10") == "20"
        pid = server_pid(url)
        supervisor = parent_pid(pid)
        first.ask("close")
        assert second.ask("incr shared 10") == "30"
        assert server_pid(url) == pid
        second.ask("close")
        wait_until(lambda: not is_alive(pid) and not is_alive(supervisor), seconds=5)
        assert not processes_of(directory)
        assert not (directory / "server.sock").exists()
        assert not (directory / "server.json").exists()


def test_one_directory_by_several_names_is_one_server(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with User(tmp_path / "real") as first, User(tmp_path / "link") as second:
        assert server_pid(first.ask("open")) == server_pid(second.ask("open"))


def test_the_server_outlives_the_process_that_started_it_for_those_who_still_use_it(directory: Path) -> None:
    with User(directory) as first, User(directory) as second:
        pid = server_pid(first.ask("open"))
        second.ask("open")
        second.tell("incr counter 3000")
        first.signal(signal.SIGKILL)
        first.wait()
        assert second.answer() == "3000"
        assert server_pid(second.ask("open")) == pid


def test_ctrl_c_in_the_starters_terminal_does_not_reach_the_server(directory: Path) -> None:
    with User(directory) as first, User(directory) as second:
        pid = server_pid(first.ask("open"))
        second.ask("open")
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait() != 0
        assert second.ask("incr counter 100") == "100"
        assert is_alive(pid)


def test_eight_processes_that_start_at_once_get_one_server(directory: Path) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(User(directory)) for _ in range(8)]
        for user in users:
            user.tell("open")
        urls = [user.answer() for user in users]
        assert len({server_pid(url) for url in urls}) == 1
        assert sorted(int(user.ask("incr counter 1")) for user in users) == list(range(1, 9))
        # Those that lost the race for the lock have started nothing.
        assert len(processes_of(directory)) == 2


async def test_data_is_there_again_after_the_server_was_stopped_and_started(directory: Path) -> None:
    async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
        await client.set("kept", "yes")
        pid = server_pid(server.url)
    wait_until(lambda: not is_alive(pid))
    async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
        assert server_pid(server.url) != pid
        assert await client.get("kept") == b"yes"
    wait_until(lambda: not processes_of(directory))
    assert not zombie_children()


async def test_opening_while_others_close_always_gives_a_live_server_with_all_data(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without lingering the server stops at every close that leaves it without users: the race is hit often.
    monkeypatch.setattr(starter, "LINGER_SECONDS", 0.0)
    pids = set()
    rounds = 12

    async def come_and_go() -> None:
        for _ in range(rounds):
            async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
                await client.incr("visits")
                pids.add((await client.info("server"))["process_id"])
            await asyncio.sleep(random.uniform(0, 0.3))

    await asyncio.gather(come_and_go(), come_and_go())
    async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
        assert await client.get("visits") == str(2 * rounds).encode()
    assert len(pids) > 1, "the server never stopped in between, so nothing was tried"
    wait_until(lambda: not processes_of(directory))


def test_when_everybody_is_killed_no_server_is_left(directory: Path) -> None:
    with User(directory) as first, User(directory) as second:
        pid = server_pid(first.ask("open"))
        second.ask("open")
        for victim in (first.pid, second.pid, parent_pid(pid)):
            os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), seconds=5)


def test_after_a_crash_of_everything_at_once_the_next_user_finds_all_data(directory: Path) -> None:
    with User(directory) as user:
        pid = server_pid(user.ask("open"))
        user.ask("incr counter 100")
        for victim in (user.pid, parent_pid(pid), pid):
            os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))
    assert (directory / "server.sock").exists()
    assert (directory / "server.json").exists()
    with User(directory) as user:
        assert server_pid(user.ask("open")) != pid
        assert user.ask("incr counter 1") == "101"


async def test_a_crashed_server_is_started_again_under_its_users(directory: Path) -> None:
    async with await start_embedded(str(directory)) as server:
        async with Redis.from_url(server.url) as client:
            await client.set("kept", "yes")
            pid = server_pid(server.url)
            before = _read(directory / "server.json")
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: _read(directory / "server.json") not in ("", before))
        async with Redis.from_url(server.url) as client:
            assert await client.get("kept") == b"yes"
        assert server_pid(server.url) != pid


async def test_a_server_that_was_shut_down_on_purpose_stays_down_until_the_next_open(directory: Path) -> None:
    async with await start_embedded(str(directory)) as server:
        pid = server_pid(server.url)
        async with Redis.from_url(server.url) as client:
            await client.shutdown()
        wait_until(lambda: not processes_of(directory))
        async with await start_embedded(str(directory)) as again:
            assert again.url == server.url
            assert server_pid(again.url) != pid


async def test_attack_47_what_it_keeps_in_an_existing_folder_is_open_to_its_user_alone_also_what_an_older_version_left(
    directory: Path,
) -> None:
    directory.mkdir(mode=0o755)
    kept = directory / "appendonlydir"
    old = [directory / "server.lock", directory / "users.lock", directory / "server.log", kept / "old.aof"]
    kept.mkdir(mode=0o755)
    for path in old:
        path.touch(mode=0o644)
    umask = os.umask(0o022)
    try:
        async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
            await client.set("secret", "word")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}
    finally:
        os.umask(umask)
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    assert modes.keys() >= {*(path.name for path in old), "server.json", "appendonly.aof.1.incr.aof", "appendonlydir"}
    # The folder itself is the user's own affair.
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755


async def test_an_address_that_a_crash_left_behind_does_not_lead_to_a_stranger(
    directory: Path, fresh_server: RunningServer
) -> None:
    directory.mkdir()
    socket = fresh_server.url.removeprefix("unix://")
    (directory / "server.json").write_text(json.dumps({"socket": socket, "run_id": "0" * 40}))
    async with await start_embedded(str(directory)) as server:
        assert server_pid(server.url) != fresh_server.pid


@pytest.mark.parametrize("left", ["", "{", "[]", "null", '{"socket": 1}', '{"socket": null, "run_id": null}'])
async def test_a_mangled_address_is_as_good_as_none(directory: Path, left: str) -> None:
    directory.mkdir()
    (directory / "server.json").write_text(left)
    async with await start_embedded(str(directory)) as server:
        assert server_pid(server.url)


async def test_a_path_too_long_for_a_socket_is_shared_all_the_same(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30) / ("é" * 60)
    async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
        assert await client.ping()
        with User(directory) as other:
            assert other.ask("open") == server.url
        assert not server.url.startswith(f"unix://{tmp_path}")
    wait_until(lambda: not Path(server.url.removeprefix("unix://")).exists())


async def test_the_event_loop_turns_while_the_server_starts(directory: Path) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    turning = asyncio.create_task(turn())
    async with await start_embedded(str(directory)):
        turning.cancel()
    assert turns > 10


@pytest.mark.parametrize("after_seconds", [0.0, 0.01, 0.05, 0.1])
def test_a_cancelled_open_leaves_nothing_running(directory: Path, after_seconds: float) -> None:
    async def open_and_cancel() -> None:
        opening = asyncio.create_task(start_embedded(str(directory)))
        await asyncio.sleep(after_seconds)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await (await opening).close()

    # The thread that starts the server may only then get to it: the end of the loop waits for that thread.
    asyncio.run(open_and_cancel())
    wait_until(lambda: not processes_of(directory), seconds=5)


def test_a_forked_child_that_closes_does_not_end_its_parents_hold(directory: Path) -> None:
    script = """
import asyncio, os, sys
from tailrace.bus.embedded import start_embedded
server = asyncio.run(start_embedded(sys.argv[1]))
if not (child := os.fork()):
    asyncio.run(server.close())
    os._exit(0)
os.waitpid(child, 0)
print("child closed", flush=True)
sys.stdin.read()
asyncio.run(server.close())
"""
    command = [sys.executable, "-c", script, str(directory)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "child closed\n"
        assert try_exclusive(directory / "users.lock") is None
    wait_until(lambda: not processes_of(directory), seconds=5)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
