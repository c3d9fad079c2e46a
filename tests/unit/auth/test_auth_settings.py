"""What the environment may say of credentials."""

from __future__ import annotations

import pytest

from tailrace.bus import InvalidInputError
from tailrace.gateway.settings import read_settings
from tests.unit.auth.keys import SECRET

KEY = SECRET.decode()


@pytest.mark.parametrize("name", ["jwt_hs256_keys", "jwks_url", "jwks_file", "api_keys", "api_keys_file"])
def test_a_gateway_beyond_loopback_refuses_to_start_without_auth_and_names_the_settings(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"TAILRACE_{name.upper()}") as refusal:
        read_settings(host="0.0.0.0")
    assert refusal.value.field == "host"


def test_with_a_key_it_serves_any_address() -> None:
    settings = read_settings(host="0.0.0.0", jwt_hs256_keys=f"{KEY}, {KEY[::-1]}")
    assert settings.auth_required
    assert [key.get_secret_value() for key in settings.jwt_hs256_keys] == [KEY, KEY[::-1]]


def test_without_any_key_nobody_is_asked() -> None:
    assert not read_settings().auth_required


@pytest.mark.parametrize("name", ["jwt_hs256_keys", "ticket_keys"])
def test_a_short_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"TAILRACE_{name.upper()}", f"{KEY},too-short-a-secret")
    with pytest.raises(InvalidInputError, match="32 bytes or more") as refusal:
        read_settings()
    assert refusal.value.field == name
    assert "too-short" not in str(refusal.value)


def test_secrets_are_not_shown() -> None:
    assert KEY not in repr(read_settings(jwt_hs256_keys=KEY, ticket_keys=KEY))


@pytest.mark.parametrize("url", ["http://issuer.example/keys", "ftp://issuer.example", "issuer.example", "https://"])
def test_keys_are_fetched_over_tls_only(url: str) -> None:
    with pytest.raises(InvalidInputError, match="https://") as refusal:
        read_settings(jwks_url=url, jwt_audience="tailrace")
    assert refusal.value.field == "jwks_url"


def test_keys_of_a_url_sign_for_others_too_so_an_audience_must_be_told() -> None:
    with pytest.raises(InvalidInputError, match="TAILRACE_JWKS_URL") as refusal:
        read_settings(jwks_url="https://issuer.example/keys")
    assert refusal.value.field == "jwt_audience"
    assert read_settings(jwks_url="https://issuer.example/keys", jwt_audience="tailrace").auth_required


def test_api_keys_come_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = "0" * 64
    monkeypatch.setenv("TAILRACE_API_KEYS", f'[{{"id":"ci","sha256":"{digest}","subject":"ci","scopes":["read"]}}]')
    assert read_settings().api_keys[0].id == "ci"
    monkeypatch.setenv("TAILRACE_API_KEYS", f'[{{"id":"ci","sha256":"{digest}","subject":"ci"}}]')
    with pytest.raises(InvalidInputError, match="scopes") as refusal:
        read_settings()
    assert digest not in str(refusal.value)


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "https://app.example,x"])
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        read_settings(allowed_origins=origin)
    assert refusal.value.field == "allowed_origins"


def test_networks_of_proxies_are_checked() -> None:
    assert len(read_settings(trusted_proxies="10.0.0.0/8, ::1").trusted_proxies) == 2
    with pytest.raises(InvalidInputError):
        read_settings(trusted_proxies="10.0.0.0/8, proxy.example")
