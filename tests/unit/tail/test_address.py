"""A URL is understood, or refused by name of its setting; a password in it is never shown."""

from __future__ import annotations

import string
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.redis.address import SCHEMES, dial_of, node_url, parse_url, redacted
from tailrace.bus.settings import BusSettings

hosts = st.one_of(
    st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z]{2,5})?", fullmatch=True), st.just("[::1]"), st.just("10.1.2.3")
)
ports = st.integers(1, 65535)
passwords = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="%"), min_size=1)
# What a hand slips into on the keyboard, and what breaks splitting.
mistakes = st.text(st.sampled_from([*"[]:/@?#,.%²+ =&\\", *string.ascii_letters[:6], *string.digits]), max_size=30)


@given(st.sampled_from(["", *(f"{scheme}://" for scheme in SCHEMES)]), mistakes)
def test_any_text_is_understood_or_refused_by_name_of_its_setting(start: str, rest: str) -> None:
    try:
        target = parse_url(start + rest)
        if target.kind != "cluster" and target.scheme != "embedded":
            dial_of(target)
    except InvalidInputError as refusal:
        assert refusal.field == "redis_url"  # noqa: PT017 - some of them are usable
    else:
        assert all(0 < port < 65536 for _, port in target.addresses)


@given(st.sampled_from(["redis", "rediss"]), st.lists(st.tuples(hosts, ports), min_size=1, max_size=4), passwords)
def test_a_cluster_is_its_seeds_with_the_same_credentials_for_every_node(
    scheme: str, seeds: list[tuple[str, int]], password: str
) -> None:
    given_seeds = ",".join(f"{host}:{port}" for host, port in seeds)
    quoted = quote(password, safe="")
    target = parse_url(f"{scheme}+cluster://me:{quoted}@{given_seeds}/?socket_timeout=3")
    assert target.addresses == tuple((host.strip("[]"), port) for host, port in seeds)
    assert (
        node_url(target, target.addresses[0])
        == f"{scheme}://me:{quoted}@{seeds[0][0]}:{seeds[0][1]}/0?socket_timeout=3"
    )


@given(st.lists(hosts, min_size=1, max_size=3), st.integers(0, 15))
def test_sentinels_have_a_port_by_default_a_service_and_a_database(names: list[str], database: int) -> None:
    target = parse_url(f"redis+sentinel://{','.join(names)}/events/{database}")
    assert target.addresses == tuple((name.strip("[]"), 26379) for name in names)
    assert (target.service, target.database) == ("events", database)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://h:1",
        "redis+sentinel://h:1/x/y",
        "redis+sentinel://h:1/x/²",
        "redis+sentinel:///x",
        "redis+cluster://",
        "redis+cluster://h:p",
        "redis+cluster://h:99999",
        "redis+cluster://h:0",
        "redis://[::1",
        "redis://h:p",
        "http://x",
        "",
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError, match="redis_url"):
        dial_of(parse_url(url))


@pytest.mark.parametrize(
    "url",
    [
        "redis://:S3cret@h:1/0",
        "redis://me:S3cret@h",
        "rediss://me:a@b:S3cret@h",
        "me:S3cret@h:6379",
        ":S3cret@h:6379/0",
        "redis://h/0?password=S3cret",
        "redis://h/0?db=1&password=S3cret&x=y",
        "redis://me:x@h/0?ssl_password=S3cret",
        "unix://me:S3cret@/run/redis.sock",
        "redis+cluster://me:S3cret@a:1,b:2/",
        "http://me:S3cret@h",
        "redis://me:S3cret@[::1",
        "redis://me:S3cret@h:p",
    ],
)
def test_a_password_is_not_shown_wherever_it_stands(url: str) -> None:
    assert "S3cret" not in redacted(url)
    try:
        dial_of(parse_url(url))
    except InvalidInputError as refusal:
        assert "S3cret" not in str(refusal)  # noqa: PT017 - some of them are usable


@pytest.mark.parametrize(
    "url",
    ["redis://me:S3cret@h:1/0?password=S3cret", "redis+cluster://me:S3cret@a:1/?password=S3cret", "nonsense:S3cret"],
)
def test_attack_78_neither_settings_nor_a_target_show_the_url_with_its_password(url: str) -> None:
    settings = BusSettings(redis_url=SecretStr(url))
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    with suppress(InvalidInputError):
        shown += f"{parse_url(url)!r}"
    assert "S3cret" not in shown
    assert settings.redis_url.get_secret_value() == url


def test_what_is_no_password_is_shown() -> None:
    shown = "redis+cluster://me@a:1,b:2/?socket_timeout=3"
    assert redacted(shown) == shown
    assert redacted("redis://me:x@h:1/0?db=1") == "redis://me:***@h:1/0?db=1"
