"""Who asks something of an execution is who the credential says, and of others' executions nobody can ask anything."""

from __future__ import annotations

import httpx
import pytest

from tailrace.bus import Bus
from tests.integration.auth.issuer import Issuer
from tests.integration.ws.client import connected

pytestmark = pytest.mark.anyio


@pytest.fixture
async def waiting(bus: Bus) -> str:
    return await bus.submit("nothing", execution_id="acme-run", tenant="acme")


async def test_the_credential_says_who_asks(client: httpx.AsyncClient, issuer: Issuer, waiting: str) -> None:
    headers = issuer.headers(subject="ann")
    claimed = await client.post(f"/v1/executions/{waiting}/cancel", headers=headers, json={"by": "bob"})
    assert (claimed.status_code, claimed.json()["field"]) == (400, "by")
    cancelled = await client.post(f"/v1/executions/{waiting}/cancel", headers=headers)
    assert cancelled.json()["outcome"]["data"] == {"reason": "cancelled", "by": "ann"}


@pytest.mark.parametrize("op", ["cancel", "pause", "resume", "signals"])
async def test_it_takes_the_scope_and_the_tenant(
    client: httpx.AsyncClient, issuer: Issuer, waiting: str, op: str
) -> None:
    url, body = f"/v1/executions/{waiting}/{op}", {"name": "go"} if op == "signals" else {}
    answers = [
        await client.post(url, json=body),
        await client.post(url, json=body, headers=issuer.headers(scopes=["read", "publish", "submit"])),
        await client.post(url, json=body, headers=issuer.headers(tenant="other")),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (401, "unauthenticated"),
        (403, "insufficient_scope"),
        (404, "execution_unknown"),
    ]
    assert (await client.get(f"/v1/executions/{waiting}", headers=issuer.headers())).json()["status"] == "queued"


async def test_a_socket_asks_in_the_name_of_its_token(bus: Bus, gateway_url: str, issuer: Issuer, waiting: str) -> None:
    url = gateway_url.replace("http", "ws", 1) + "/v1/ws"
    async with connected(url, additional_headers=issuer.headers(scopes=["read"])) as reader:
        assert (await reader.ask("cancel", execution=waiting))["code"] == "insufficient_scope"
    async with connected(url, additional_headers=issuer.headers(tenant="other")) as stranger:
        assert (await stranger.ask("cancel", execution=waiting))["code"] == "execution_unknown"
    async with connected(url, additional_headers=issuer.headers(subject="ann")) as owner:
        assert (await owner.ask("cancel", execution=waiting, by="bob"))["field"] == "by"
        assert (await owner.ask("cancel", execution=waiting))["status"] == "cancelled"
    state = await bus.state(waiting)
    assert state is not None
    assert state.status == "cancelled"
