"""Each thing that can stand in the way of a start, for real, and whether the sentence helps."""

from __future__ import annotations

import asyncio
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tailrace.bus.embedded import EmbeddedServerError, start_embedded, starter
from tailrace.bus.embedded.layout import Layout
from tests.integration.embedded.processes import processes_of, wait_until
from tests.integration.embedded.user import REPOSITORY
from tests.patience import patient

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "bus"


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path


async def test_a_path_beneath_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"file/bus is not a directory.*choose another path"):
        await start_embedded(str(tmp_path / "file" / "bus"))


async def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"file is not a directory.*choose another path"):
        await start_embedded(str(tmp_path / "file"))


async def test_a_directory_that_cannot_be_written_is_refused() -> None:
    # Where not even root may create anything.
    with pytest.raises(EmbeddedServerError, match=r"/sys/tailrace is not writable.*choose another directory"):
        await start_embedded("/sys/tailrace")


@pytest.mark.parametrize("path", ["nul\0byte", "~no-such-user-here/bus"])
async def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(EmbeddedServerError, match="is not a usable path"):
        await start_embedded(path)


async def test_a_platform_without_a_server_in_the_wheel_is_refused_with_the_alternative(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(EmbeddedServerError, match=r"riscv64.*use redis://host:port"):
        await start_embedded(str(directory))


async def test_a_binary_that_cannot_be_run_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "find_binary", lambda: Path("/no/such/valkey-server"))
    with pytest.raises(EmbeddedServerError, match=r"could not be run: .*No such file.*use redis://host:port"):
        await start_embedded(str(directory))
    wait_until(lambda: not processes_of(directory))


@pytest.mark.parametrize("throwaway", [False, True])
async def test_a_server_that_dies_at_its_start_is_quoted(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, throwaway: bool
) -> None:
    dying = program(tmp_path / "valkey-server", "echo 'no memory for this'; exit 3")
    monkeypatch.setattr(starter, "find_binary", lambda: dying)
    with pytest.raises(EmbeddedServerError, match=r"exit code 3; it said: no memory for this"):
        await start_embedded(None if throwaway else str(directory))


async def test_a_server_whose_throwaway_directory_is_gone_before_its_death_is_explained_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = program(tmp_path / "valkey-server", "echo 'no memory for this'; exit 3")
    monkeypatch.setattr(starter, "find_binary", lambda: dying)
    explain = starter._raise_unless_ready

    def explain_late(output: bytes, complaint: bytes, layout: Layout, binary: Path) -> None:
        wait_until(lambda: not layout.directory.exists())
        explain(output, complaint, layout, binary)

    monkeypatch.setattr(starter, "_raise_unless_ready", explain_late)
    with pytest.raises(EmbeddedServerError, match=r"exit code 3; it said: no memory for this"):
        await start_embedded(None)


async def test_a_server_that_is_not_ready_in_time_is_told_and_ended(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = program(tmp_path / "valkey-server", "echo 'loading 900 GB'; exec sleep 60")
    monkeypatch.setattr(starter, "find_binary", lambda: slow)
    with pytest.raises(EmbeddedServerError, match=r"not ready within 1 s.*start_timeout_seconds.*loading 900 GB"):
        await start_embedded(str(directory), start_timeout_seconds=1)
    wait_until(lambda: not processes_of(directory), seconds=5)


async def test_a_corrupt_log_is_named_and_the_cure_in_the_sentence_works(directory: Path) -> None:
    async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
        for number in range(100):
            await client.set(f"key-{number:02}", "value")
    wait_until(lambda: not processes_of(directory))
    [log] = (directory / "appendonlydir").glob("*.incr.aof")
    written = bytearray(log.read_bytes())
    middle = len(written) // 2
    written[middle : middle + 60] = b"\xff" * 60
    log.write_bytes(written)

    with pytest.raises(EmbeddedServerError, match=re.escape(f"{log} is corrupt")) as refused:
        await start_embedded(str(directory))
    cure = str(refused.value).partition("with: ")[2]
    await asyncio.to_thread(
        subprocess.run, shlex.split(cure), input=b"y\n", check=True, capture_output=True, timeout=patient(20)
    )

    async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
        assert 30 < await client.dbsize() < 60


async def test_a_log_that_ends_in_the_middle_of_a_write_is_cut_by_the_server_itself(directory: Path) -> None:
    async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
        await client.set("first", "kept")
        await client.set("second", "torn")
    wait_until(lambda: not processes_of(directory))
    [log] = (directory / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(log.read_bytes()[:-3])
    async with await start_embedded(str(directory)) as server, Redis.from_url(server.url) as client:
        assert await client.mget("first", "second") == [b"kept", None]


async def test_a_missing_piece_of_the_log_is_named(directory: Path) -> None:
    async with await start_embedded(str(directory)):
        pass
    wait_until(lambda: not processes_of(directory))
    [log] = (directory / "appendonlydir").glob("*.incr.aof")
    log.unlink()
    with pytest.raises(EmbeddedServerError, match=re.escape(f"{log} is missing")):
        await start_embedded(str(directory))


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """On a disk of 64 KB, mounted where only this process and its children see it."""
    inside = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*inside, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no user namespaces here, so no disk to fill")
    script = f"""
set -e
mount -t tmpfs -o size=64k tmpfs {tmp_path}
head -c 65536 /dev/zero > {tmp_path}/ballast
exec {sys.executable} -c 'import asyncio; from tailrace.bus.embedded import *
try: asyncio.run(start_embedded("{tmp_path}/bus"))
except EmbeddedServerError as error: print(error)'
"""
    done = subprocess.run(
        [*inside, "sh", "-c", script], check=True, capture_output=True, text=True, cwd=REPOSITORY, timeout=patient(60)
    )
    assert done.stdout == f"the disk of {tmp_path}/bus is full; free some space and start again\n"
