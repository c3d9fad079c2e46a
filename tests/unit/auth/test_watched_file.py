from __future__ import annotations

from pathlib import Path

import pytest

from tailrace.gateway.auth.watched_file import WatchedFile


def test_attack_50_a_file_that_has_gone_is_told_once_and_read_again_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b"[]")
    file = WatchedFile(path)
    assert file.changed() == b"[]"
    assert file.changed() is None

    path.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        file.changed()
    assert [file.changed() for _ in range(3)] == [None, None, None]

    (tmp_path / "elsewhere").rename(path)
    assert file.changed() == b"[]"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.changed()


def test_attack_50_another_reason_is_told_anew(tmp_path: Path) -> None:
    file = WatchedFile(tmp_path / "keys.json")
    with pytest.raises(FileNotFoundError):
        file.changed()
    (tmp_path / "keys.json").mkdir()
    with pytest.raises(IsADirectoryError):
        file.changed()
    assert file.changed() is None
