"""Sentences for what no test can bring about on every machine; the others stand in the integration tests."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tailrace.bus.embedded.diagnosis import FULL_DISK_BYTES, explain_exit, explain_os_error, explain_timeout
from tailrace.bus.embedded.layout import Layout

LAYOUT = Layout(Path("/srv/bus"))
BINARY = Path("/opt/valkey-server")
LOG_PREFIX = "5637:M 21 Nov 2026 00:20:43.273 # "


def explain(*log: str, free_bytes: int = FULL_DISK_BYTES) -> str:
    return explain_exit(1, list(log), layout=LAYOUT, binary=BINARY, free_bytes=free_bytes)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EACCES, "/srv/bus is not writable for this user; change its owner or choose another directory"),
        (errno.EROFS, "/srv/bus is not writable for this user; change its owner or choose another directory"),
        (errno.ENOSPC, "the disk of /srv/bus is full; free some space and start again"),
        (errno.ENOLCK, "the file system of /srv/bus has no file locks (flock); choose one on a local disk"),
        (errno.EIO, "cannot use /srv/bus: broken; choose another directory"),
    ],
)
def test_what_the_operating_system_refuses_is_told_with_its_cure(number: int, sentence: str) -> None:
    assert explain_os_error(OSError(number, "broken"), LAYOUT) == sentence


def test_a_full_disk_is_known_by_its_log_or_by_its_free_space() -> None:
    full = "the disk of /srv/bus is full; free some space and start again"
    assert explain(f"{LOG_PREFIX}Write error writing append only file on disk: No space left on device") == full
    assert explain(free_bytes=FULL_DISK_BYTES - 1) == full


def test_a_corrupt_snapshot_is_not_to_be_cut() -> None:
    sentence = explain(f"{LOG_PREFIX}Bad file format reading the append only file appendonly.aof.1.base.rdb: make ...")
    assert sentence.startswith("/srv/bus/appendonlydir/appendonly.aof.1.base.rdb is corrupt; restore it")
    assert "--fix" not in sentence


def test_a_corrupt_manifest_is_named() -> None:
    assert "manifest in /srv/bus/appendonlydir is corrupt" in explain(
        f"{LOG_PREFIX}>>> 'garbage'", "", f"{LOG_PREFIX}Invalid AOF manifest file format", ""
    )


def test_an_unknown_end_is_quoted_without_the_logs_prefixes() -> None:
    assert explain(f"{LOG_PREFIX}Out of", f"{LOG_PREFIX}cheese") == (
        "the embedded server of /srv/bus ended at its start with exit code 1; it said: Out of / cheese"
    )
    assert explain().endswith("it said: nothing")


def test_a_timeout_names_the_setting_that_allows_more() -> None:
    assert explain_timeout(15.0, [], LAYOUT).startswith("the embedded server of /srv/bus was not ready within 15 s")
    assert "start_timeout_seconds" in explain_timeout(15.0, [], LAYOUT)
