"""The file of events: whole lines, bounded size, and a broken disk that is told of in it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from tailrace.bus.model.cursor import Cursor
from tailrace.workers.handlers import Delivery, Handlers, JsonlFile, jsonl


def event(n: int, data: Any = None) -> Delivery:
    return Delivery("run", Cursor(1, n), "custom.n", "fetch", None, data)


def lines(path: Path) -> list[Any]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_an_event_is_a_line_that_shows_what_the_wire_shows(tmp_path: Path) -> None:
    with JsonlFile(tmp_path / "logs" / "events.jsonl") as file:
        file(event(1, {"text": "a\nb"}))
    assert lines(file.path) == [
        {"id": "1-1", "type": "custom.n", "execution_id": "run", "step": "fetch", "data": {"text": "a\nb"}}
    ]


def test_what_was_there_stays_there(tmp_path: Path) -> None:
    for n in (1, 2):
        with JsonlFile(tmp_path / "events.jsonl") as file:
            file(event(n))
    assert [line["id"] for line in lines(file.path)] == ["1-1", "1-2"]


def test_it_rotates_by_size_and_keeps_so_many(tmp_path: Path) -> None:
    size = len(orjson.dumps(event(10).as_json())) + 1
    with JsonlFile(tmp_path / "e.jsonl", max_bytes=2 * size, keep_files=2) as file:
        for n in range(10, 19):
            file(event(n))
    kept = {path.name: [line["id"] for line in lines(path)] for path in tmp_path.iterdir()}
    assert kept == {
        "e.jsonl": ["1-18"],
        "e.jsonl.1": ["1-16", "1-17"],
        "e.jsonl.2": ["1-14", "1-15"],
    }


def test_without_older_files_it_begins_anew(tmp_path: Path) -> None:
    with JsonlFile(tmp_path / "e.jsonl", max_bytes=1, keep_files=0) as file:
        file(event(1))
        file(event(2))
    assert [path.name for path in tmp_path.iterdir()] == ["e.jsonl"]
    assert [line["id"] for line in lines(file.path)] == ["1-2"]


def test_a_line_that_a_crash_tore_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"id":"1-')
    with JsonlFile(path) as file:
        file(event(2))
    torn, whole = path.read_bytes().splitlines()
    assert torn == b'{"id":"1-'
    assert orjson.loads(whole)["id"] == "1-2"


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    file = JsonlFile(tmp_path / "e.jsonl")
    file(event(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda descriptor, line: write(descriptor, line[: len(line) // 2]))
        with pytest.raises(OSError, match="bytes were written"):
            file(event(2))
    file.close()
    assert [line["id"] for line in lines(file.path)] == ["1-1"]


def test_what_a_broken_disk_cost_is_told_when_it_is_whole_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "AGAIN_SECONDS", 0.0)
    folder = tmp_path / "folder"
    folder.write_text("a file where a folder should be")
    with JsonlFile(folder / "e.jsonl") as file:
        for n in (1, 2):
            with pytest.raises(OSError):
                file(event(n))
        folder.unlink()
        file(event(3))
    gap, third = lines(file.path)
    assert gap == {"type": "stream.gap", "data": {"reason": "not_written", "events": 2}}
    assert third["id"] == "1-3"
    assert file.lost_events == 2


def test_a_broken_disk_is_not_asked_with_every_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refuse(*arguments: Any) -> int:
        asked.append(arguments)
        raise PermissionError("read-only file system")

    file = JsonlFile(tmp_path / "e.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        for n in range(50):
            with pytest.raises(OSError):
                file(event(n))
    assert len(asked) == 1
    assert file.lost_events == 50


def test_lines_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    with JsonlFile(tmp_path / "e.jsonl", max_bytes=20_000, keep_files=100) as file:

        def write(first: int) -> None:
            for n in range(first, first + 200):
                file(event(n, "x" * 50))

        threads = [threading.Thread(target=write, args=(first,)) for first in (0, 200, 400)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    written = [line["id"] for path in tmp_path.iterdir() for line in lines(path)]
    assert sorted(written) == sorted(f"1-{n}" for n in range(600))


@pytest.mark.anyio
async def test_a_broken_disk_hurts_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    handlers, got = Handlers(), list[Delivery]()
    handlers.add(JsonlFile(tmp_path / "file" / "e.jsonl"))
    handlers.add(got.append)
    await handlers.handle(event(1))
    assert len(got) == 1
    assert handlers.failures == {"JsonlFile": 1}


@pytest.mark.parametrize("bad", [{"max_bytes": 0}, {"keep_files": -1}])
def test_bounds_that_are_none_are_refused(tmp_path: Path, bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least"):
        JsonlFile(tmp_path / "e.jsonl", **bad)
