"""Tickets open one execution's streams, for a moment, for whom they were given to."""

from __future__ import annotations

import asyncio
import time

import httpx
import jwt
import pytest

from tailrace.bus import Bus
from tailrace.gateway.auth.principal import Principal
from tailrace.gateway.auth.tickets import TicketOffice
from tailrace.gateway.settings import read_settings
from tests.e2e.sse_client import open_stream
from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.gateway.live import live_gateway
from tests.integration.ws.client import connected, publish

pytestmark = pytest.mark.anyio

RUN, OTHER = "acme__build-7", "acme__build-8"


@pytest.fixture(autouse=True)
async def _runs(bus: Bus) -> None:
    for run in (RUN, OTHER):
        await bus.submit("document", execution_id=run, tenant="acme")


async def ticket_for(client: httpx.AsyncClient, headers: dict[str, str], run: str = RUN, **wishes: object) -> str:
    answer = await client.post("/v1/tickets", headers=headers, json={"execution_id": run, **wishes})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["ticket"])


async def code_of(client: httpx.AsyncClient, path: str, **params: str) -> tuple[int, str]:
    answer = await client.get(path, params=params, headers={"Accept": "application/json"})
    return answer.status_code, "" if answer.is_success else answer.json()["code"]


async def test_a_ticket_opens_its_execution_and_no_other(client: httpx.AsyncClient, issuer: Issuer) -> None:
    ticket = await ticket_for(client, issuer.headers())
    assert await code_of(client, f"/v1/executions/{RUN}", ticket=ticket) == (200, "")
    assert await code_of(client, f"/v1/executions/{OTHER}", ticket=ticket) == (404, "execution_unknown")
    assert await code_of(client, "/v1/executions/acme__unknown", ticket=ticket) == (404, "execution_unknown")
    listed = await client.get("/v1/executions", params={"ticket": ticket})
    assert {item["execution_id"] for item in listed.json()["items"]} <= {RUN}


async def test_a_ticket_reads_and_does_nothing_else_unless_that_was_asked_for(
    client: httpx.AsyncClient, issuer: Issuer
) -> None:
    events = f"/v1/executions/{RUN}/events"
    reading = await ticket_for(client, issuer.headers())
    refused = await client.post(events, params={"ticket": reading}, json={"type": "log", "data": 1})
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    writing = await ticket_for(client, issuer.headers(), scopes=["publish"])
    assert (await client.post(events, params={"ticket": writing}, json={"type": "log"})).status_code == 200


async def test_nobody_gets_a_ticket_for_more_than_he_may(client: httpx.AsyncClient, issuer: Issuer) -> None:
    said = {"execution_id": RUN, "scopes": ["read", "control"]}
    answer = await client.post("/v1/tickets", headers=issuer.headers(scopes=["read"]), json=said)
    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    ticket = await ticket_for(client, issuer.headers())
    answer = await client.post("/v1/tickets", params={"ticket": ticket}, json={"execution_id": RUN})
    assert answer.status_code == 403


async def test_a_token_in_a_query_string_opens_nothing(client: httpx.AsyncClient, issuer: Issuer) -> None:
    token = issuer.token()
    for name in ("ticket", "token", "access_token", "authorization"):
        status, code = await code_of(client, f"/v1/executions/{RUN}", **{name: token})
        assert status == 401
        assert code == ("invalid_ticket" if name == "ticket" else "unauthenticated")


async def test_a_ticket_is_no_token(client: httpx.AsyncClient, issuer: Issuer) -> None:
    ticket = await ticket_for(client, issuer.headers())
    answer = await client.get(f"/v1/executions/{RUN}", headers={"Authorization": f"Bearer {ticket}"})
    assert answer.status_code == 401


async def test_nobody_can_make_a_ticket_with_a_key_that_signs_tokens(client: httpx.AsyncClient, issuer: Issuer) -> None:
    ticket = await ticket_for(client, issuer.headers())
    said = jwt.decode(ticket, options={"verify_signature": False})
    forged = jwt.encode({**said, "run": OTHER}, SECRET, "HS256", headers={"typ": "ticket+jwt"})
    assert await code_of(client, f"/v1/executions/{OTHER}", ticket=forged) == (401, "invalid_ticket")


async def test_a_ticket_for_one_use_opens_once(client: httpx.AsyncClient, gateway_url: str, issuer: Issuer) -> None:
    ticket = await ticket_for(client, issuer.headers(), once=True)
    async with open_stream(gateway_url, RUN, query={"ticket": ticket}) as stream:
        await stream.until("stream.caught_up")
    for path in (f"/v1/executions/{RUN}/events", f"/v1/executions/{RUN}"):
        assert await code_of(client, path, ticket=ticket) == (401, "ticket_used")


async def test_attack_61_a_ticket_for_one_use_is_used_up_neither_by_a_refusal_nor_by_a_read_of_the_state(
    client: httpx.AsyncClient, gateway_url: str, issuer: Issuer
) -> None:
    ticket = await ticket_for(client, issuer.headers(), once=True)
    events = f"/v1/executions/{RUN}/events"
    assert await code_of(client, f"/v1/executions/{RUN}", ticket=ticket) == (200, "")
    refused = await client.get(
        events, params={"ticket": ticket, "from": "nonsense"}, headers={"Accept": "text/event-stream"}
    )
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")
    async with open_stream(gateway_url, RUN, query={"ticket": ticket}) as stream:
        assert stream.status == 200


async def test_a_request_that_changes_something_uses_up_a_ticket_for_one_use(
    client: httpx.AsyncClient, issuer: Issuer
) -> None:
    ticket = await ticket_for(client, issuer.headers(), once=True, scopes=["publish"])
    answers = [
        await client.post(f"/v1/executions/{RUN}/events", params={"ticket": ticket}, json={"type": "log"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 401]


async def test_attack_63_who_is_limited_to_one_execution_changes_nothing_of_others(
    client: httpx.AsyncClient, gateway_url: str, issuer: Issuer
) -> None:
    """Not by a ticket, and not by a token with ``runs``, though the scope is admin."""
    ticket = await ticket_for(client, issuer.headers(), scopes=["admin"])
    limited = issuer.headers(runs=[RUN], subject="limited")
    said = {"kind": "subject", "value": "ann"}
    async with connected(f"{gateway_url}/v1/ws".replace("http", "ws"), additional_headers=issuer.headers()):
        # A socket that watches nothing is of no execution.
        for credential in ({"params": {"ticket": ticket}}, {"headers": limited}):
            refused = await client.post("/v1/revocations", json=said, **credential)  # type: ignore[arg-type]
            assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
            listed = await client.get("/v1/clients", **credential)  # type: ignore[arg-type]
            assert listed.json()["items"] == []
            assert (await client.get("/metrics", **credential)).status_code == 403  # type: ignore[arg-type]


async def test_attack_67_a_ticket_of_a_gateway_whose_clock_is_ahead_is_taken(bus: Bus, issuer: Issuer) -> None:
    secret = [b"k" * 32]
    ahead = TicketOffice(bus.commands, bus.keys, secret, now=lambda: time.time() + 2)
    ours = TicketOffice(bus.commands, bus.keys, secret)
    principal = Principal("ann", "acme", frozenset({"read"}))
    ticket = await ahead.issue(principal, RUN, frozenset({"read"}), seconds=60, once=False)
    assert (await ours.take(ticket.text)).runs == (RUN,)


async def test_a_ticket_expires(bus: Bus, issuer: Issuer) -> None:
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET, ticket_seconds=1)
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url) as client:
        ticket = await ticket_for(client, issuer.headers())
        deadline = time.monotonic() + 10
        while (answer := await code_of(client, f"/v1/executions/{RUN}", ticket=ticket))[0] == 200:
            assert time.monotonic() < deadline
            # Not faster than its subject may ask.
            await asyncio.sleep(0.02)
    assert answer == (401, "ticket_expired")


async def test_a_stream_outlives_its_ticket_and_not_the_token_behind_it(bus: Bus, issuer: Issuer) -> None:
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET, ticket_seconds=1)
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url) as asking:
        ticket = await ticket_for(asking, issuer.headers(seconds=4))
        async with open_stream(url, RUN, query={"ticket": ticket}) as stream:
            await stream.until("stream.caught_up")
            deadline = time.monotonic() + 3
            while (await code_of(asking, f"/v1/executions/{RUN}", ticket=ticket))[0] == 200:
                assert time.monotonic() < deadline
            await publish(bus, RUN, 1)
            await stream.until("custom.count")
            assert (await stream.rest())[-1].payload["code"] == "token_expired"


async def test_a_ticket_goes_with_the_token_that_it_was_made_of(client: httpx.AsyncClient, issuer: Issuer) -> None:
    ticket = await ticket_for(client, issuer.headers(jti="mine"))
    await client.post(
        "/v1/revocations", headers=issuer.headers(subject="root"), json={"kind": "token", "value": "mine"}
    )
    assert await code_of(client, f"/v1/executions/{RUN}", ticket=ticket) == (401, "token_revoked")


async def test_another_gateway_takes_it_too(bus: Bus, client: httpx.AsyncClient, issuer: Issuer) -> None:
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET)
    async with live_gateway(bus, settings) as url, httpx.AsyncClient(base_url=url) as other:
        ticket = await ticket_for(client, issuer.headers())
        assert await code_of(other, f"/v1/executions/{RUN}", ticket=ticket) == (200, "")


async def test_keys_of_tickets_can_be_changed_one_by_one(bus: Bus, issuer: Issuer) -> None:
    old, new = SECRET[::-1], f"new-{SECRET}"
    made = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET, ticket_keys=old)
    async with live_gateway(bus, made) as url, httpx.AsyncClient(base_url=url) as client:
        ticket = await ticket_for(client, issuer.headers())
    for keys, expected in ((f"{new},{old}", 200), (new, 401)):
        taken = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET, ticket_keys=keys)
        async with live_gateway(bus, taken) as url, httpx.AsyncClient(base_url=url) as client:
            assert (await code_of(client, f"/v1/executions/{RUN}", ticket=ticket))[0] == expected


async def test_a_socket_of_several_executions_gets_that_of_its_ticket_only(
    client: httpx.AsyncClient, gateway_url: str, issuer: Issuer
) -> None:
    ticket = await ticket_for(client, issuer.headers())
    url = f"{gateway_url.replace('http', 'ws', 1)}/v1/ws?ticket={ticket}"
    async with connected(url) as socket:
        assert (await socket.ask("subscribe", execution=RUN))["op"] == "subscribed"
        assert (await socket.ask("subscribe", execution=OTHER))["code"] == "execution_unknown"


async def test_without_auth_a_ticket_can_be_had_all_the_same(bus: Bus) -> None:
    """So that a page need not know whether it is being developed."""
    async with live_gateway(bus) as url, httpx.AsyncClient(base_url=url) as client:
        ticket = await ticket_for(client, {})
        assert await code_of(client, f"/v1/executions/{RUN}", ticket=ticket) == (200, "")
