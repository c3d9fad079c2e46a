"""Whose a new execution is, and what nobody learns by making one."""

from __future__ import annotations

import httpx
import pytest

from tailrace.bus import Bus
from tailrace.bus.ownership.tenancy import claim
from tests.integration.auth.issuer import Issuer

pytestmark = pytest.mark.anyio

JOB = {"pipeline": "document", "input": {}}
LINE = {"type": "log", "data": 1}


async def tenant_of(bus: Bus, run: str) -> str | None:
    state = await bus.state(run)
    assert state is not None
    return state.tenant


@pytest.mark.parametrize(("tenant", "owner"), [("acme", "acme"), (None, None), ("*", None)])
async def test_a_submitted_run_is_the_tenants_of_who_submitted_it(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer, tenant: str | None, owner: str | None
) -> None:
    answer = await client.post("/v1/executions", headers=issuer.headers(tenant=tenant), json=JOB)
    assert answer.status_code == 202
    assert await tenant_of(bus, answer.json()["execution_id"]) == owner


@pytest.mark.parametrize(
    ("media_type", "body"),
    [("text/plain", b"x"), ("application/json", b"{"), ("application/json", b'{"type":"NO"}')],
)
async def test_attack_64_a_publish_that_is_refused_takes_no_id(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer, media_type: str, body: bytes
) -> None:
    headers = {**issuer.headers(), "Content-Type": media_type}
    refused = await client.post("/v1/executions/acme__free/events", headers=headers, content=body)
    assert refused.status_code in {400, 415}
    assert await bus.state("acme__free") is None
    submitted = await client.post(
        "/v1/executions", headers=issuer.headers(), json={**JOB, "execution_id": "acme__free"}
    )
    assert submitted.status_code == 202


async def test_nobody_submits_for_another_tenant(client: httpx.AsyncClient, issuer: Issuer) -> None:
    answer = await client.post("/v1/executions", headers=issuer.headers(), json={**JOB, "tenant": "globex"})
    assert answer.status_code == 422


async def test_an_id_is_chosen_in_the_tenants_own_name_only_so_that_no_conflict_tells_of_others(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer
) -> None:
    await bus.submit("document", execution_id="globex__there", tenant="globex")
    await bus.submit("document", execution_id="there", tenant="globex")
    answers = []
    for run in ("globex__there", "globex__not-there", "there", "not-there", "acme_there", "acme__"):
        answer = await client.post("/v1/executions", headers=issuer.headers(), json={**JOB, "execution_id": run})
        answers.append((answer.status_code, answer.content))
    assert len(set(answers)) == 1
    assert answers[0][0] == 403
    assert b"execution_id_not_covered" in answers[0][1]
    own = await client.post("/v1/executions", headers=issuer.headers(), json={**JOB, "execution_id": "acme__there"})
    assert own.status_code == 202


async def test_the_same_key_of_two_tenants_is_two_runs(client: httpx.AsyncClient, issuer: Issuer) -> None:
    runs = set()
    for tenant in ("acme", "globex", "acme"):
        headers = {**issuer.headers(tenant=tenant), "Idempotency-Key": "the-same"}
        answer = await client.post("/v1/executions", headers=headers, json=JOB)
        assert answer.status_code == 202
        runs.add(answer.json()["execution_id"])
    assert len(runs) == 2


async def test_a_token_for_some_runs_makes_no_others(client: httpx.AsyncClient, issuer: Issuer) -> None:
    headers = issuer.headers(runs=["acme__nightly-*"])
    for body, status in (
        ({**JOB, "execution_id": "acme__nightly-1"}, 202),
        ({**JOB, "execution_id": "acme__other"}, 403),
        (JOB, 403),
    ):
        assert (await client.post("/v1/executions", headers=headers, json=body)).status_code == status


async def test_without_a_tenant_ids_are_free_but_for_those_in_a_tenants_name(
    client: httpx.AsyncClient, issuer: Issuer
) -> None:
    for tenant, run, status in (
        (None, "nightly-1", 202),
        (None, "acme__nightly-1", 403),
        ("*", "nightly-2", 202),
        ("*", "acme__nightly-2", 202),
    ):
        body = {**JOB, "execution_id": run}
        answer = await client.post("/v1/executions", headers=issuer.headers(tenant=tenant), json=body)
        assert answer.status_code == status


async def test_publishing_begins_a_run_of_ones_own(bus: Bus, client: httpx.AsyncClient, issuer: Issuer) -> None:
    for _ in range(2):
        answer = await client.post("/v1/executions/acme__new/events", headers=issuer.headers(), json=LINE)
        assert answer.status_code == 200
    assert await tenant_of(bus, "acme__new") == "acme"
    assert (await client.get("/v1/executions/acme__new", headers=issuer.headers())).status_code == 200
    others = await client.get("/v1/executions/acme__new", headers=issuer.headers(tenant="globex"))
    assert others.status_code == 404


async def test_publishing_begins_no_run_in_the_name_of_others(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer
) -> None:
    await bus.submit("document", execution_id="globex__there", tenant="globex")
    await bus.submit("document", execution_id="acme__taken", tenant="globex")
    answers = []
    for run in ("globex__there", "globex__new", "acme__taken", "new"):
        answer = await client.post(f"/v1/executions/{run}/events", headers=issuer.headers(), json=LINE)
        answers.append((answer.status_code, answer.content.replace(run.encode(), b"RUN")))
    assert len(set(answers)) == 1
    assert answers[0][0] == 404
    for run in ("globex__new", "new"):
        assert not await bus.log.exists(run)
    assert (await bus.log.extent("globex__there")).length == 1


async def test_a_run_of_no_tenant_is_not_taken_by_publishing_to_it(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer
) -> None:
    await bus.submit("document", execution_id="acme__nobodys")
    answer = await client.post("/v1/executions/acme__nobodys/events", headers=issuer.headers(), json=LINE)
    assert answer.status_code == 404
    assert await tenant_of(bus, "acme__nobodys") is None


async def test_a_log_whose_state_was_lost_is_still_the_tenants_in_whose_name_it_is(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer
) -> None:
    await bus.submit("document", execution_id="globex__there", tenant="globex")
    await bus.commands.command("DEL", bus.keys.meta("globex__there"))
    events = "/v1/executions/globex__there/events?limit=1"
    for tenant, status in (("acme", 404), (None, 404), ("globex", 200)):
        assert (await client.get(events, headers=issuer.headers(tenant=tenant))).status_code == status


async def test_what_is_claimed_and_never_written_expires(bus: Bus) -> None:
    assert await claim(bus.commands, bus.keys, "acme__new", "acme", live_seconds=bus.settings.live_seconds) == "acme"
    assert 0 < await bus.commands.command("TTL", bus.keys.meta("acme__new")) <= bus.settings.live_seconds


async def test_a_listing_has_the_tenants_runs_and_of_these_what_the_patterns_name(
    bus: Bus, client: httpx.AsyncClient, issuer: Issuer
) -> None:
    for run, tenant in (("acme__a-1", "acme"), ("acme__b-1", "acme"), ("globex__a-1", "globex"), ("free", None)):
        await bus.submit("document", execution_id=run, tenant=tenant)

    async def listed(**said: object) -> set[str]:
        answer = await client.get("/v1/executions", headers=issuer.headers(**said))
        return {item["execution_id"] for item in answer.json()["items"]}

    assert await listed() == {"acme__a-1", "acme__b-1"}
    assert await listed(runs=["*__a-*"]) == {"acme__a-1"}
    assert await listed(tenant=None) == {"free"}
    assert await listed(tenant="*") == {"acme__a-1", "acme__b-1", "globex__a-1", "free"}
