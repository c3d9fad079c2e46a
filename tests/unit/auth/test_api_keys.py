"""API keys: made once, kept as digests."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from tailrace.gateway.auth import new_key
from tailrace.gateway.auth.api_keys import ApiKeys, UnusableApiKeysError, new_api_key, parse_api_keys
from tailrace.gateway.auth.refusals import UnauthenticatedError


def entry(key_id: str = "ci", **members: Any) -> tuple[str, dict[str, Any]]:
    key, digest = new_api_key(key_id)
    return key, {
        "id": key_id,
        "sha256": digest,
        "subject": "builds",
        "tenant": "acme",
        "scopes": ["publish"],
        **members,
    }


def keys(*entries: dict[str, Any]) -> ApiKeys:
    return ApiKeys.of(parse_api_keys(json.dumps(entries)))


def test_a_key_speaks_for_its_subject() -> None:
    key, said = entry(runs=["acme__*"], created=5)
    principal = keys(said).verify(key, now=0.0)
    assert (principal.subject, principal.tenant, principal.api_key) == ("builds", "acme", "ci")
    assert (principal.scopes, principal.runs, principal.issued_at) == (frozenset({"publish"}), ("acme__*",), 5)


def test_neither_another_secret_nor_another_id_will_do() -> None:
    key, said = entry()
    other, _ = entry()
    for wrong in (other, key[:-1], key.replace("_ci_", "_cd_"), "trk_", "trk_ci_", "trk_ci", key + "x"):
        with pytest.raises(UnauthenticatedError) as refused:
            keys(said).verify(wrong, now=0.0)
        assert refused.value.problem.code == "invalid_token"
        assert wrong not in refused.value.problem.detail or wrong == "trk_"


def test_a_key_expires() -> None:
    key, said = entry(expires=100)
    assert keys(said).verify(key, now=99.0).expires_at == 100
    with pytest.raises(UnauthenticatedError) as refused:
        keys(said).verify(key, now=100.0)
    assert refused.value.problem.code == "token_expired"


@pytest.mark.parametrize(
    ("changed", "covered"),
    [
        ({}, True),
        ({"scopes": ["read", "publish", "control"]}, True),
        ({"runs": None}, True),
        ({"expires": None}, True),
        ({"scopes": ["publish"]}, False),
        ({"runs": ["acme__a*"]}, False),
        ({"runs": []}, False),
        ({"sha256": "0" * 64}, False),
        ({"expires": 99}, False),
        ({"subject": "others"}, False),
        ({"tenant": None}, False),
    ],
    ids=str,
)
def test_attack_51_a_key_that_covers_less_no_longer_covers_what_it_opened(
    changed: dict[str, Any], covered: bool
) -> None:
    key, said = entry(scopes=["read", "publish"], runs=["acme__a*", "acme__b"], expires=100)
    principal = keys(said).verify(key, now=0.0)
    changed_key = keys({**said, **changed}).by_id["ci"]
    assert changed_key.still_covers(principal) is covered
    ticket = dataclasses.replace(principal, credential="ticket", scopes=frozenset({"read"}), runs=("acme__b",))
    assert changed_key.still_covers(ticket) is covered


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"scopes": ["everything"]}, "scopes"),
        ({"tenant": "a__b"}, "tenant"),
        ({"runs": ["a b"]}, "runs"),
        ({"sha256": "secret"}, "sha256"),
        ({"surprise": 1}, "surprise"),
        ({"id": "a_b"}, "id"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_without_its_secrets(members: dict[str, Any], named: str) -> None:
    _, said = entry(**members)
    with pytest.raises(UnusableApiKeysError, match=named) as refused:
        keys(said)
    assert said["sha256"] not in str(refused.value)


def test_two_keys_of_one_id_are_refused() -> None:
    with pytest.raises(UnusableApiKeysError, match="same id"):
        keys(entry()[1], entry()[1])


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(UnusableApiKeysError):
        parse_api_keys("{}")


def test_a_new_key_comes_with_the_entry_for_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert new_key.main(["ci", "--tenant", "acme", "--scopes", "read,publish"]) == 0
    key, said = capsys.readouterr().out.splitlines()
    principal = ApiKeys.of(parse_api_keys(f"[{said}]")).verify(key, now=0.0)
    assert (principal.subject, principal.tenant, principal.scopes) == ("ci", "acme", frozenset({"read", "publish"}))
    secret = key.removeprefix("trk_ci_")
    assert secret != key
    assert secret not in said


def test_a_new_key_with_an_unknown_scope_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        new_key.main(["ci", "--scopes", "everything"])
    assert "scopes" in capsys.readouterr().err
