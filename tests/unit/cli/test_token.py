from __future__ import annotations

import pytest

from tailrace.cli.client.token import headers, token
from tailrace.cli.errors import CliError


def test_a_credential_is_shown_to_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_TOKEN", " abc.def-g_h== \n")
    assert headers() == {"Authorization": "Bearer abc.def-g_h=="}


@pytest.mark.parametrize("given", ["", "  "])
def test_none_is_shown_where_there_is_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_TOKEN", given)
    assert (token(), headers()) == (None, {})


@pytest.mark.parametrize("given", ["a b", "a\r\nX: y", "\u00e9", "Bearer abc"])
def test_what_is_none_is_refused_and_not_repeated(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_TOKEN", given)
    with pytest.raises(CliError, match=r"^TAILRACE_TOKEN: ") as refusal:
        token()
    assert given not in str(refusal.value)
