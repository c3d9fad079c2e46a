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


async def test_questions_and_dead_letters_are_those_that_the_credential_covers(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer
) -> None:
    await bus.jobs.queues.open("default")
    letters: dict[str, str] = {}
    for tenant in ("acme", "globex"):
        execution_id = await bus.submit("document", tenant=tenant)
        await bus.checkpoints.store_question(execution_id, "look.1", b"\x80", fence=0)
        await bus.index.asked(execution_id, "look.1", tenant, 1000)
        await bus.dead_letters.add(execution_id, "worker_lost", f"of {tenant}")
        letters[tenant] = (await bus.dead_letters.list("default", count=1))[0].entry_id

    seen_by: dict[str | None, set[str]] = {"acme": {"acme"}, "*": {"acme", "globex"}, None: set(), "other": set()}
    for who, seen in seen_by.items():
        headers = issuer.headers(tenant=who)
        questions = (await client.get("/v1/questions", headers=headers)).json()["items"]
        assert {item["tenant"] for item in questions} == seen
        found = (await client.get("/v1/dead-letters", headers=headers)).json()["items"]
        assert {item["message"] for item in found} == {f"of {each}" for each in seen}

    others = f"/v1/dead-letters/default/{letters['globex']}"
    unknown = "/v1/dead-letters/default/1-1"
    for method, end in (("POST", "/requeue"), ("DELETE", "")):
        refused = [await client.request(method, path + end, headers=issuer.headers()) for path in (others, unknown)]
        assert {answer.status_code for answer in refused} == {404}
        told = {answer.text.replace(letters["globex"], "ID").replace("1-1", "ID") for answer in refused}
        assert len(told) == 1
    assert len(await bus.dead_letters.list("default")) == 2
