"""Whatever protocol Redis answers in, a reading looks the same."""

from __future__ import annotations

import hiredis
import pytest

from tailrace.bus.tail.replies import streams_of

ENTRIES = b"*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nt\r\n$1\r\na\r\n"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"_\r\n", {}),
        (b"*-1\r\n", {}),
        (b"$-1\r\n", {}),
        (b"%0\r\n", {}),
        (b"%1\r\n$1\r\nk\r\n" + ENTRIES, {b"k": [[b"1-1", [b"t", b"a"]]]}),
        (b"*1\r\n*2\r\n$1\r\nk\r\n" + ENTRIES, {b"k": [[b"1-1", [b"t", b"a"]]]}),
    ],
)
def test_maps_pairs_and_nothing_are_one_shape(said: bytes, expected: dict[bytes, object]) -> None:
    reader = hiredis.Reader()
    reader.feed(said)
    assert streams_of(reader.gets()) == expected
