"""Live connections end when their credentials do, so that their clients can go on with other ones."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.gateway.auth.api_keys import new_api_key
from tailrace.gateway.settings import read_settings
from tests.e2e.sse_client import SseStream, open_stream
from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.gateway.live import live_gateway
from tests.integration.ws.client import connected, publish
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

# A sweep comes every half second, and a second is what Unix times are counted in.
SOON_SECONDS = 3.0
RUN = "acme__build-7"


@pytest.fixture(autouse=True)
async def _run(bus: Bus) -> None:
    await bus.submit("document", execution_id=RUN, tenant="acme")


@pytest.fixture
async def other_url(server_url: str, prefix: str) -> AsyncGenerator[str, None]:
    """Another gateway, with a connection of its own."""
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET)
    async with (
        await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus,
        live_gateway(bus, settings) as url,
    ):
        yield url


@asynccontextmanager
async def caught_up(url: str, headers: dict[str, str], after: str | None = None) -> AsyncGenerator[SseStream, None]:
    async with open_stream(url, RUN, headers=headers, after=after) as stream:
        assert stream.status == 200, await stream.body()
        await stream.until("stream.caught_up")
        yield stream


async def told_ending(stream: SseStream) -> tuple[str, float]:
    """The code of the error that a stream ended with, and how long that took."""
    begun = time.monotonic()
    frames = await stream.rest()
    assert stream.complete
    assert frames[-1].name == "stream.error"
    assert not frames[-1].id
    return str(frames[-1].payload["code"]), time.monotonic() - begun


async def test_a_stream_ends_when_its_token_expires_and_goes_on_with_another(
    bus: Bus, gateway_url: str, issuer: Issuer
) -> None:
    async with caught_up(gateway_url, issuer.headers(seconds=1.5)) as stream:
        await publish(bus, RUN, 3)
        frames = await stream.until_true(lambda frame: frame.name == "custom.count" and frame.payload["data"]["n"] == 2)
        code, took = await told_ending(stream)
    assert code == "token_expired"
    assert took < stretched(1.5 + SOON_SECONDS)
    await publish(bus, RUN, 2, first=3)
    async with open_stream(gateway_url, RUN, headers=issuer.headers(), after=frames[-1].id) as stream:
        frames = await stream.until("stream.caught_up")
    assert [frame.payload["data"]["n"] for frame in frames if frame.name == "custom.count"] == [3, 4]


async def test_an_expired_token_opens_nothing(client: httpx.AsyncClient, issuer: Issuer) -> None:
    answer = await client.get(f"/v1/executions/{RUN}/events", headers=issuer.headers(seconds=-1))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


@pytest.mark.parametrize("kind", ["token", "subject"])
async def test_a_revocation_ends_streams_on_every_gateway_within_seconds(
    bus: Bus, client: httpx.AsyncClient, other_url: str, issuer: Issuer, kind: str
) -> None:
    gateway_url = str(client.base_url)
    mine = issuer.headers(jti="mine")
    async with (
        caught_up(gateway_url, mine) as here,
        caught_up(other_url, mine) as there,
        caught_up(other_url, issuer.headers(subject="bob")) as unharmed,
    ):
        value = {"token": "mine", "subject": "ann"}[kind]
        admin = issuer.headers(subject="root")
        answer = await client.post("/v1/revocations", headers=admin, json={"kind": kind, "value": value})
        assert answer.status_code == 204
        for stream in (here, there):
            code, took = await told_ending(stream)
            assert code == "token_revoked"
            assert took < stretched(SOON_SECONDS)
        await publish(bus, RUN, 1)
        await unharmed.until("custom.count")
    for url in (gateway_url, other_url):
        async with httpx.AsyncClient(base_url=url) as asking:
            refused = await asking.get(f"/v1/executions/{RUN}", headers=mine)
        assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")


async def test_a_gateway_that_starts_later_knows_what_was_revoked_before(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer
) -> None:
    mine = issuer.headers(jti="mine")
    await client.post("/v1/revocations", headers=issuer.headers(), json={"kind": "token", "value": "mine"})
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET)
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url) as asking:
        assert (await asking.get(f"/v1/executions/{RUN}", headers=mine)).json()["code"] == "token_revoked"


async def test_an_admin_revokes_in_its_own_tenant_only(client: httpx.AsyncClient, issuer: Issuer) -> None:
    mine = issuer.headers(jti="mine")
    for tenant in ("globex", None):
        said = {"kind": "subject", "value": "ann"}
        answer = await client.post("/v1/revocations", headers=issuer.headers(tenant=tenant, subject="eve"), json=said)
        assert answer.status_code == 204
    assert (await client.get(f"/v1/executions/{RUN}", headers=mine)).status_code == 200


async def test_a_key_that_is_taken_out_of_the_file_ends_its_streams(bus: Bus, tmp_path: Path) -> None:
    def entry(key_id: str, digest: str) -> dict[str, Any]:
        return {"id": key_id, "sha256": digest, "subject": key_id, "tenant": "acme", "scopes": ["read"]}

    (going, going_digest), (staying, staying_digest) = new_api_key("going"), new_api_key("staying")
    path = tmp_path / "keys.json"
    path.write_text(json.dumps([entry("going", going_digest), entry("staying", staying_digest)]))
    async with live_gateway(bus, read_settings(drain_seconds=0, api_keys_file=path)) as url:
        async with (
            caught_up(url, {"Authorization": f"Bearer {going}"}) as ended,
            caught_up(url, {"Authorization": f"Bearer {staying}"}) as unharmed,
        ):
            replacement = tmp_path / "new.json"
            replacement.write_text(json.dumps([entry("staying", staying_digest)]))
            replacement.replace(path)
            code, took = await told_ending(ended)
            assert code == "token_revoked"
            assert took < stretched(SOON_SECONDS)
            await publish(bus, RUN, 1)
            await unharmed.until("custom.count")
        async with httpx.AsyncClient(base_url=url) as asking:
            refused = await asking.get(f"/v1/executions/{RUN}", headers={"Authorization": f"Bearer {going}"})
        assert refused.status_code == 401


async def test_attack_51_a_key_whose_scope_is_taken_away_ends_its_streams(bus: Bus, tmp_path: Path) -> None:
    key, digest = new_api_key("narrowed")
    entry = {"id": "narrowed", "sha256": digest, "subject": "narrowed", "tenant": "acme", "scopes": ["read"]}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps([entry]))
    async with (
        live_gateway(bus, read_settings(drain_seconds=0, api_keys_file=path)) as url,
        caught_up(url, {"Authorization": f"Bearer {key}"}) as ended,
    ):
        replacement = tmp_path / "new.json"
        replacement.write_text(json.dumps([{**entry, "scopes": ["submit"]}]))
        replacement.replace(path)
        assert (await told_ending(ended))[0] == "token_revoked"


async def test_a_stream_of_several_executions_ends_with_its_token_too(
    client: httpx.AsyncClient, issuer: Issuer
) -> None:
    headers = issuer.headers(seconds=1.5)
    async with (
        asyncio.timeout(patient(15)),
        client.stream("GET", f"/v1/stream?execution={RUN}", headers=headers) as response,
    ):
        assert response.status_code == 200
        text = "".join([piece async for piece in response.aiter_text()])
    assert text.rstrip().splitlines()[-2] == "event: stream.error"
    assert "token_expired" in text


@pytest.mark.parametrize("path", ["/v1/activity", f"/v1/executions/{RUN}/events"])
async def test_streams_of_other_kinds_end_with_it_as_well(client: httpx.AsyncClient, issuer: Issuer, path: str) -> None:
    accept = "text/event-stream" if path == "/v1/activity" else "application/x-ndjson"
    headers = {**issuer.headers(seconds=1.5), "Accept": accept}
    async with asyncio.timeout(patient(15)), client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        text = "".join([piece async for piece in response.aiter_text()])
    assert "token_expired" in text
    assert "stream.error" in text


async def test_a_socket_says_why_and_closes_when_its_token_expires(gateway_url: str, issuer: Issuer) -> None:
    url = f"{gateway_url.replace('http', 'ws', 1)}/v1/ws"
    async with connected(url, additional_headers=issuer.headers(seconds=1.5)) as client:
        await client.ask("subscribe", execution=RUN)
        assert await client.closed() == 4401
        last = client.said[-1]
    assert (last["op"], last["code"]) == ("error", "token_expired")
    assert "id" not in last
    assert "execution" not in last


async def test_a_socket_that_renews_its_token_stays(bus: Bus, gateway_url: str, issuer: Issuer) -> None:
    url = f"{gateway_url.replace('http', 'ws', 1)}/v1/ws"
    async with connected(url, additional_headers=issuer.headers(seconds=1.5)) as client:
        await client.ask("subscribe", execution=RUN)
        answer = await client.ask("auth", token=issuer.token(seconds=4))
        assert answer["op"] == "authenticated"
        assert answer["expires"].endswith("Z")
        await asyncio.sleep(3)  # beyond the first token: nothing can be awaited but that nothing happens
        await publish(bus, RUN, 1)
        await client.until(lambda said: said["op"] == "event" and said["type"] == "custom.count")
        assert await client.closed() == 4401


async def test_a_token_that_will_not_do_leaves_the_socket_with_the_one_it_had(gateway_url: str, issuer: Issuer) -> None:
    url = f"{gateway_url.replace('http', 'ws', 1)}/v1/ws"
    async with connected(url, additional_headers=issuer.headers()) as client:
        await client.ask("subscribe", execution=RUN)
        refused = {
            "other_principal": [issuer.token(subject="bob"), issuer.token(tenant="globex"), issuer.token(tenant="*")],
            "insufficient_scope": [issuer.token(scopes=["control"]), issuer.token(runs=["acme__other"])],
            "invalid_token": ["nonsense", Issuer(SECRET[::-1]).token()],
            "token_expired": [issuer.token(seconds=-1)],
        }
        for code, tokens in refused.items():
            for token in tokens:
                assert (await client.ask("auth", token=token))["code"] == code
        assert (await client.ask("ping"))["op"] == "pong"


async def test_a_renewed_token_brings_its_own_scopes(gateway_url: str, issuer: Issuer) -> None:
    url = f"{gateway_url.replace('http', 'ws', 1)}/v1/ws"
    async with connected(url, additional_headers=issuer.headers(scopes=["read"])) as client:
        await client.ask("auth", token=issuer.token(scopes=["publish"]))
        assert (await client.ask("subscribe", execution=RUN))["code"] == "insufficient_scope"


async def test_a_long_poll_gives_nothing_to_a_token_that_expired_meanwhile(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer
) -> None:
    head = (await bus.log.extent(RUN)).latest
    params = {"after": str(head), "wait": "20"}
    headers = {**issuer.headers(seconds=1), "Accept": "application/json"}
    asking = asyncio.create_task(client.get(f"/v1/executions/{RUN}/events", params=params, headers=headers))
    await asyncio.sleep(1.5)  # beyond the token: nothing is to be seen of that until something is published
    await publish(bus, RUN, 1)
    answer = await asking
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
