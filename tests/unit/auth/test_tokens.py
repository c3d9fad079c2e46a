"""Which tokens are taken, and which are not."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from typing import Any

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given

from tailrace.bus.model.keys import Keys
from tailrace.gateway.auth.jwks import UnusableKeysError, parse_jwks
from tailrace.gateway.auth.keyring import Keyring
from tailrace.gateway.auth.refusals import UnauthenticatedError
from tailrace.gateway.auth.tickets import TicketOffice
from tailrace.gateway.auth.tokens import TICKET_TYPE, TokenRules, Tokens
from tailrace.gateway.http.problems import ProblemError
from tests.unit.auth.keys import OTHER_SECRET, SECRET, claims, ec_jwk, ec_key, jwks, rsa_jwk, rsa_key, token
from tests.unit.workers_core.fakes import RecordedCommands

pytestmark = pytest.mark.anyio

PLAIN = TokenRules(None, None, "tenant", 3600.0)


def tokens(*secrets: bytes, rules: TokenRules = PLAIN, public: bytes | None = None) -> Tokens:
    async def fetch(_: str) -> bytes:
        return public or b""

    url = None if public is None else "https://issuer.example/keys"
    return Tokens(Keyring(secrets, url=url, fetch=fetch, clock=time.monotonic), rules, time.time)


async def refusal(checked: Tokens, text: str) -> UnauthenticatedError:
    with pytest.raises(UnauthenticatedError) as refused:
        await checked.verify(text)
    assert text not in str(refused.value.problem)
    return refused.value


async def test_a_good_token_says_who_asks_and_for_what() -> None:
    text = token(scope="read publish others:thing", jti="t1", runs=["acme__*"])
    principal = await tokens(SECRET).verify(text)
    assert (principal.subject, principal.tenant, principal.token_id) == ("ann", "acme", "t1")
    assert principal.scopes == {"read", "publish"}
    assert principal.runs == ("acme__*",)
    assert principal.expires_at is not None


async def test_each_of_several_secrets_is_accepted_so_that_they_can_be_changed_one_by_one() -> None:
    checked = tokens(OTHER_SECRET, SECRET)
    assert (await checked.verify(token(SECRET))).subject == "ann"
    assert (await checked.verify(token(OTHER_SECRET))).subject == "ann"


async def test_tokens_of_public_keys_are_accepted() -> None:
    checked = tokens(public=jwks(rsa_jwk("r1"), ec_jwk("e1")))
    assert (await checked.verify(token(rsa_key("r1"), "RS256", {"kid": "r1"}))).subject == "ann"
    assert (await checked.verify(token(ec_key("e1"), "ES256", {"kid": "e1"}))).subject == "ann"
    # A token without a key id may be of any key.
    assert (await checked.verify(token(rsa_key("r1"), "RS256"))).subject == "ann"


async def test_a_public_key_is_never_taken_for_a_secret() -> None:
    public = rsa_key("r1").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT", "kid": "r1"}, claims())
    )

    signature = base64.urlsafe_b64encode(hmac.digest(public, header + b"." + body, hashlib.sha256)).rstrip(b"=")
    forged = b".".join((header, body, signature)).decode()
    checked = tokens(SECRET, public=jwks(rsa_jwk("r1")))
    assert (await refusal(checked, forged)).problem.code == "invalid_token"


async def test_an_unsigned_token_is_refused() -> None:
    header, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "typ": "JWT"}, claims())
    )
    assert (await refusal(tokens(SECRET), f"{header}.{body}.")).problem.code == "invalid_token"


async def test_an_expired_token_has_a_code_of_its_own() -> None:
    assert (await refusal(tokens(SECRET), token(exp=time.time() - 10))).problem.code == "token_expired"


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"exp": None}, "'exp'"),
        ({"sub": None}, "'sub'"),
        ({"sub": ""}, "'sub'"),
        ({"tenant": "a__b"}, "'tenant'"),
        ({"tenant": "a:b"}, "'tenant'"),
        ({"tenant": 7}, "'tenant'"),
        ({"scope": None}, "'scope'"),
        ({"scope": 7}, "'scope'"),
        ({"runs": "acme__*"}, "'runs'"),
        ({"runs": ["*****"]}, "'runs'"),
        ({"runs": ["[a]"]}, "'runs'"),
        ({"exp": {"in": 7200}}, "longer than 3600 s"),
        ({"nbf": {"in": 60}}, "not good yet"),
    ],
    ids=str,
)
async def test_a_claim_that_cannot_be_used_is_named(said: dict[str, Any], named: str) -> None:
    # Times are told from now on: those who collect this test must find it under one name.
    claims = {name: time.time() + value["in"] if isinstance(value, dict) else value for name, value in said.items()}
    refused = await refusal(tokens(SECRET), token(**claims))
    assert refused.problem.code == "invalid_token"
    assert named in refused.problem.detail


async def test_audience_and_issuer_must_be_ours_where_they_are_set() -> None:
    checked = tokens(SECRET, rules=TokenRules("tailrace", "https://issuer.example", "tenant", 3600.0))
    good = {"aud": "tailrace", "iss": "https://issuer.example"}
    assert (await checked.verify(token(**good))).subject == "ann"
    for name in good:
        assert (await refusal(checked, token(**{**good, name: "another"}))).problem.code == "invalid_token"
        assert (await refusal(checked, token(**{**good, name: None}))).problem.code == "invalid_token"


async def test_the_claim_of_the_tenant_can_have_another_name() -> None:
    checked = tokens(SECRET, rules=TokenRules(None, None, "https://acme.example/org", 3600.0))
    principal = await checked.verify(token(**{"https://acme.example/org": "org_7", "tenant": None}))
    assert principal.tenant == "org_7"


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é.é.é", "x" * 8193, "trk", "...", "e30.e30.e30"])
async def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(UnauthenticatedError):
        await tokens(SECRET).verify(text)


async def test_a_token_of_another_secret_is_refused() -> None:
    assert (await refusal(tokens(SECRET), token(OTHER_SECRET))).problem.code == "invalid_token"


async def test_before_any_key_could_be_had_the_gateway_says_that_it_is_its_own_trouble() -> None:
    with pytest.raises(ProblemError) as refused:
        await tokens(public=b"no key set").verify(token(rsa_key("r1"), "RS256", {"kid": "r1"}))
    assert (refused.value.problem.status, refused.value.problem.code) == (503, "keys_unavailable")


def test_keys_that_are_weak_or_for_something_else_are_passed_over() -> None:
    usable = parse_jwks(
        jwks(
            rsa_jwk("good"),
            rsa_jwk("weak", bits=1024),
            rsa_jwk("enc", use="enc"),
            rsa_jwk("rs512", alg="RS512"),
            {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET).decode(), "kid": "secret"},
            {"kty": "RSA", "kid": "broken"},
            {"kty": "OKP", "kid": "other"},
        ),
        secrets=False,
    )
    assert [key.key_id for key in usable] == ["good"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(["HS256", "none", "JWT", TICKET_TYPE]) | ANYTHING
        for name in ("alg", "typ", "kid", "crit", "b64", "x")
    },
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from([2e9, 0, "ann", "*", ["read"], "tailrace:ticket", {"jti": None}]) | ANYTHING
        for name in ("sub", "exp", "iat", "nbf", "aud", "iss", "scope", "runs", "run", "tenant", "jti", "once", "of")
    },
)
NESTED = base64.urlsafe_b64encode(b'{"alg":"HS256","x":' + b"[" * 5000 + b"]" * 5000 + b"}").decode().rstrip("=")


async def judged(text: str) -> None:
    """Raises whatever a client would see as a 500."""
    for verify in (tokens(SECRET).verify, TicketOffice(RecordedCommands([None] * 9), Keys("tr"), [SECRET]).take):
        with contextlib.suppress(ProblemError):
            await verify(text)


@given(header=HEADERS, said=CLAIMS, signature=st.binary(max_size=40) | st.none())
@example(header={"alg": {}}, said={}, signature=b"")
@example(header={"alg": "HS256", "typ": TICKET_TYPE}, said={"exp": float("inf")}, signature=None)
async def test_attack_45_no_header_and_no_claim_is_more_than_refused(
    header: dict[str, Any], said: dict[str, Any], signature: bytes | None
) -> None:
    """``None`` signs well, since an issuer may be wrong, too."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, said)]
    signed = hmac.digest(SECRET, b".".join(parts), hashlib.sha256) if signature is None else signature
    await judged(b".".join([*parts, base64.urlsafe_b64encode(signed).rstrip(b"=")]).decode())


@given(text=st.text(max_size=60) | st.lists(st.text(max_size=20), min_size=3, max_size=3).map(".".join))
@example(text=f"{NESTED}.e30.")
@example(text=f"e30.{NESTED}.")
async def test_attack_45_no_text_is_more_than_refused(text: str) -> None:
    await judged(text)


@given(key=st.dictionaries(st.sampled_from(["kty", "alg", "use", "kid", "n", "e", "k", "crv", "x", "y"]), ANYTHING))
@example(key={"kty": "RSA", "n": 5, "e": "AQAB"})
@example(key={"kty": "EC", "crv": {}, "x": "AA", "y": "AA"})
@example(key={"kty": "RSA", "n": "AA", "e": "AA"})
async def test_attack_45_no_key_of_a_key_set_is_more_than_passed_over(key: dict[str, Any]) -> None:
    with contextlib.suppress(UnusableKeysError):
        assert isinstance(parse_jwks(json.dumps({"keys": [key]}).encode(), secrets=True), tuple)
