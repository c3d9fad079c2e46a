from __future__ import annotations

import pytest

from tailrace.bus import InvalidInputError
from tailrace.gateway.http.loopback import is_loopback
from tailrace.gateway.settings import read_settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_loopback_addresses_are_served_without_auth(host: str) -> None:
    assert read_settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "127.0.0.1.example.org", "", "127.1"])
def test_any_other_address_is_refused_while_there_is_no_auth(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(InvalidInputError, match="a gateway without authentication listens on loopback only") as refusal:
        read_settings(host=host)
    assert refusal.value.field == "host"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PORT", "0")
    monkeypatch.setenv("TAILRACE_ALLOWED_HOSTS", "bus.example, other.example")
    settings = read_settings()
    assert settings.port == 0
    assert settings.allowed_hosts == ("bus.example", "other.example")


def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PORT", "eighty")
    with pytest.raises(InvalidInputError, match="port: Input should be a valid integer"):
        read_settings()
