"""Listing and publishing with credentials: each tenant for itself, and no hint of another's."""

from __future__ import annotations

import httpx
import pytest

from tailrace.bus import Bus
from tests.integration.auth.issuer import Issuer

pytestmark = pytest.mark.anyio


async def ids(client: httpx.AsyncClient, headers: dict[str, str], query: str = "") -> list[str]:
    answer = await client.get(f"/v1/executions{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return sorted(item["execution_id"] for item in answer.json()["items"])


async def test_a_list_has_what_the_credential_covers(bus: Bus, client: httpx.AsyncClient, issuer: Issuer) -> None:
    await bus.submit("document", execution_id="acme__a", tenant="acme")
    await bus.submit("document", execution_id="acme__b", tenant="acme")
    await bus.submit("document", execution_id="other__a", tenant="other")
    await bus.submit("document", execution_id="nobodys")
    acme, anybody = issuer.headers(), issuer.headers(tenant="*")

    assert await ids(client, acme) == ["acme__a", "acme__b"]
    assert await ids(client, acme, "?tenant=acme") == ["acme__a", "acme__b"]
    assert await ids(client, acme, "?tenant=other") == await ids(client, acme, "?tenant=no-such") == []
    assert await ids(client, issuer.headers(runs=["acme__b"])) == ["acme__b"]
    assert await ids(client, anybody) == ["acme__a", "acme__b", "nobodys", "other__a"]
    assert await ids(client, anybody, "?tenant=other") == ["other__a"]


async def test_what_a_tenant_begins_over_http_is_its_own(bus: Bus, client: httpx.AsyncClient, issuer: Issuer) -> None:
    event = {"type": "custom.a"}
    begun = await client.post("/v1/executions/acme__new/events", json=event, headers=issuer.headers())
    other = issuer.headers(tenant="other")
    refused = await client.post("/v1/executions/acme__new/events", json=event, headers=other)
    unknown = await client.post("/v1/executions/acme__nobody/events", json=event, headers=other)

    assert begun.status_code == 200
    assert await ids(client, issuer.headers()) == ["acme__new"]
    assert await ids(client, other) == []
    state = await bus.state("acme__new")
    assert state is not None
    assert state.tenant == "acme"
    assert (refused.status_code, unknown.status_code) == (404, 404)
    assert refused.json()["code"] == unknown.json()["code"] == "execution_unknown"
    assert not await bus.log.exists("acme__nobody")
