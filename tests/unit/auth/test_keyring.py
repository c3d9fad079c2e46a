"""Keys change while the gateway runs."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import httpx
import pytest

from tailrace.gateway.auth.keyring import REFETCH_SECONDS, REFRESH_SECONDS, Keyring
from tailrace.gateway.auth.refusals import UnauthenticatedError
from tailrace.gateway.auth.tokens import TokenRules, Tokens
from tailrace.gateway.auth.watched_file import WatchedFile
from tests.unit.auth.keys import OTHER_SECRET, SECRET, ec_jwk, ec_key, jwks, rsa_jwk, secret_jwk, token

pytestmark = pytest.mark.anyio

URL = "https://issuer.example/keys"


class Issuer:
    """A key set at a URL, and a clock."""

    def __init__(self, document: bytes) -> None:
        self.document = document
        self.asked = 0
        self.broken = False
        self.now = 1000.0
        self.keyring = Keyring(url=URL, fetch=self.fetch, clock=lambda: self.now)

    async def fetch(self, url: str) -> bytes:
        assert url == URL
        self.asked += 1
        if self.broken:
            raise httpx.ConnectError("refused")
        return self.document

    async def knows(self, key_id: str, algorithm: str = "ES256") -> bool:
        return bool(await self.keyring.candidates(algorithm, key_id))


async def test_an_unknown_key_id_makes_the_key_set_be_fetched_again_and_not_for_every_token() -> None:
    issuer = Issuer(jwks(ec_jwk("e1")))
    assert await issuer.knows("e1")
    issuer.document = jwks(ec_jwk("e1"), ec_jwk("e2"))
    for _ in range(100):
        assert not await issuer.knows("e2")
    assert issuer.asked == 1
    issuer.now += REFETCH_SECONDS
    assert await issuer.knows("e2")
    assert issuer.asked == 2


async def test_attack_67_a_signature_that_fits_no_key_makes_a_set_without_key_ids_be_fetched_again() -> None:
    def without_id(name: str) -> bytes:
        return jwks({member: value for member, value in ec_jwk(name).items() if member != "kid"})

    issuer = Issuer(without_id("old"))
    tokens = Tokens(issuer.keyring, TokenRules(None, None, "tenant", 3600.0), time.time)
    assert (await tokens.verify(token(ec_key("old"), "ES256"))).subject == "ann"
    issuer.document = without_id("new")
    issuer.now += REFETCH_SECONDS
    assert (await tokens.verify(token(ec_key("new"), "ES256"))).subject == "ann"
    for _ in range(100):
        with pytest.raises(UnauthenticatedError):
            await tokens.verify(token(ec_key("forged"), "ES256"))
    assert issuer.asked == 2


async def test_a_key_that_was_taken_away_is_gone_at_the_next_refresh() -> None:
    issuer = Issuer(jwks(ec_jwk("e1"), rsa_jwk("r1")))
    await issuer.keyring.refresh()
    issuer.document = jwks(ec_jwk("e1"))
    await issuer.keyring.refresh()
    assert issuer.asked == 1
    issuer.now += REFRESH_SECONDS
    await issuer.keyring.refresh()
    assert await issuer.knows("e1")
    assert not await issuer.knows("r1", "RS256")


async def test_while_the_url_cannot_be_reached_the_last_keys_stay(caplog: pytest.LogCaptureFixture) -> None:
    issuer = Issuer(jwks(ec_jwk("e1")))
    await issuer.keyring.refresh()
    issuer.broken = True
    issuer.now += REFRESH_SECONDS
    with caplog.at_level(logging.WARNING):
        await issuer.keyring.refresh()
    assert issuer.asked == 2
    assert await issuer.knows("e1")
    assert "keeping the previous ones" in caplog.text


async def test_a_secret_in_what_everybody_can_fetch_is_no_key() -> None:
    issuer = Issuer(jwks(secret_jwk(SECRET, kid="s"), ec_jwk("e1")))
    await issuer.keyring.refresh()
    assert not await issuer.keyring.candidates("HS256", None)


async def test_a_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(secret_jwk(SECRET, kid="one")))
    keyring = Keyring(file=WatchedFile(path), clock=lambda: 0.0)
    await keyring.refresh()
    assert [key.key for key in await keyring.candidates("HS256", None)] == [SECRET]
    replacement = tmp_path / "new.json"
    replacement.write_bytes(jwks(secret_jwk(SECRET, kid="one"), secret_jwk(OTHER_SECRET, kid="two")))
    replacement.replace(path)
    await keyring.refresh()
    assert [key.key for key in await keyring.candidates("HS256", "two")] == [OTHER_SECRET]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": 7}', b"\xff"])
async def test_a_key_file_that_cannot_be_read_leaves_the_keys_as_they_were(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(jwks(secret_jwk(SECRET)))
    keyring = Keyring(file=WatchedFile(path), clock=lambda: 0.0)
    await keyring.refresh()
    path.write_bytes(content)
    await keyring.refresh()
    assert await keyring.candidates("HS256", None)
    path.unlink()
    await keyring.refresh()
    assert await keyring.candidates("HS256", None)


async def test_a_key_is_not_shown() -> None:
    assert SECRET.decode() not in repr((await Keyring([SECRET], clock=lambda: 0.0).candidates("HS256", None))[0])
