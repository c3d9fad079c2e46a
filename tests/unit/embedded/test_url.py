from __future__ import annotations

import pytest

from tailrace.bus.embedded import embedded_path
from tailrace.bus.errors import InvalidInputError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("embedded://", None),
        ("embedded:///", "/"),
        ("embedded:///srv/bus", "/srv/bus"),
        ("embedded://data/bus", "data/bus"),
        ("embedded://./bus", "./bus"),
        ("embedded://~/bus", "~/bus"),
        ("embedded:///with%20space/%3F%23%25", "/with space/?#%"),
    ],
)
def test_the_path_is_all_that_follows_the_scheme(url: str, path: str | None) -> None:
    assert embedded_path(url) == path


@pytest.mark.parametrize("url", ["redis://localhost", "embedded:/bus", "embedded:///bus?db=1", "embedded:///bus#1"])
def test_anything_else_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^url: "):
        embedded_path(url)
