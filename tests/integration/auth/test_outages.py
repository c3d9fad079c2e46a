"""What still holds while Redis, or the issuer of keys, cannot be reached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.gateway.auth.keyring import fetch_document
from tailrace.gateway.settings import read_settings
from tests.e2e.sse_client import open_stream
from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.gateway.live import live_gateway
from tests.patience import patient
from tests.servers import RunningServer
from tests.unit.auth.keys import jwks, rsa_jwk, rsa_key, token

pytestmark = pytest.mark.anyio

RUN = "acme__build-7"


@asynccontextmanager
async def on_server(server: RunningServer) -> AsyncGenerator[tuple[str, Bus], None]:
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET)
    async with await open_bus(server.url, settings=BusSettings()) as bus, live_gateway(bus, settings) as url:
        await bus.submit("document", execution_id=RUN, tenant="acme")
        yield url, bus


async def test_while_redis_is_away_an_eventsource_with_a_token_is_asked_to_come_again(
    fresh_server: RunningServer, issuer: Issuer
) -> None:
    async with on_server(fresh_server) as (url, _):
        fresh_server.kill()
        async with asyncio.timeout(patient(20)), open_stream(url, RUN, headers=issuer.headers()) as stream:
            assert stream.status == 200
            body = await stream.body()
        assert b'"code":"bus_unavailable"' in body
        assert b"retry: " in body
        # Who has no credential is told so all the same.
        async with open_stream(url, RUN) as stream:
            assert stream.status == 401


async def test_while_redis_is_away_a_stream_still_ends_with_its_token(
    fresh_server: RunningServer, issuer: Issuer
) -> None:
    async with (
        on_server(fresh_server) as (url, _),
        open_stream(url, RUN, headers=issuer.headers(seconds=3)) as stream,
    ):
        await stream.until("stream.caught_up")
        fresh_server.kill()
        assert (await stream.rest(seconds=10))[-1].payload["code"] == "token_expired"


async def test_what_was_revoked_elsewhere_while_redis_was_away_is_read_first_thing_afterwards(
    fresh_server: RunningServer, issuer: Issuer
) -> None:
    async with on_server(fresh_server) as (url, _), httpx.AsyncClient(base_url=url) as client:
        mine = issuer.headers(jti="mine")
        fresh_server.restart()
        async with await open_bus(fresh_server.url, settings=BusSettings()) as elsewhere:
            said = ("k", "token", "t", "acme", "v", "mine")
            await elsewhere.commands.command("XADD", elsewhere.keys.revocations(), "*", *said)
        deadline = time.monotonic() + patient(10)
        while (answer := await client.get(f"/v1/executions/{RUN}", headers=mine)).status_code != 401:
            assert time.monotonic() < deadline
        assert answer.json()["code"] == "token_revoked"


@asynccontextmanager
async def key_server(document: bytes) -> AsyncGenerator[str, None]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(document) + document)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"


async def test_tokens_of_an_issuer_are_taken_also_when_that_cannot_be_reached_any_more(bus: Bus) -> None:
    await bus.submit("document", execution_id=RUN, tenant="acme")
    good = {"Authorization": "Bearer " + token(rsa_key("r1"), "RS256", {"kid": "r1"}, aud="tailrace")}
    bad = {"Authorization": "Bearer " + token(rsa_key("r2"), "RS256", {"kid": "r1"}, aud="tailrace")}
    async with AsyncExitStack() as stack:
        async with key_server(jwks(rsa_jwk("r1"))) as keys:
            settings = read_settings(drain_seconds=0, jwks_url=keys, jwt_audience="tailrace")
            url = await stack.enter_async_context(live_gateway(bus, settings))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
            assert (await client.get(f"/v1/executions/{RUN}", headers=good)).status_code == 200
        for headers, status in ((good, 200), (bad, 401)):
            assert (await client.get(f"/v1/executions/{RUN}", headers=headers)).status_code == status
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url) as client:
        refused = await client.get(f"/v1/executions/{RUN}", headers=good)
        assert (refused.status_code, refused.json()["code"]) == (503, "keys_unavailable")


async def test_a_key_document_without_end_is_given_up() -> None:
    async with key_server(b"[" * 300_000) as url:
        with pytest.raises(Exception, match="bytes"):
            await fetch_document(url)
