"""Every route, with every scope, for the tenant's own run, another tenant's, and one that nobody has.

Routes are found by walking the application: one that is added without asking who calls fails here by itself.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import orjson
import pytest
import websockets
from fastapi import APIRouter

from tailrace.bus import Bus, BusSettings
from tailrace.bus.deployment import Standalone
from tailrace.bus.model.counters import Counters
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.commands import Commands
from tailrace.gateway.app import create_app
from tailrace.gateway.settings import read_settings
from tests.integration.auth.doors import Door, UnguardedError, doors_of
from tests.integration.auth.issuer import SCOPES, Issuer
from tests.integration.ws.client import connected

pytestmark = pytest.mark.anyio

VARYING = {"date", "content-length", "x-request-id"}
OPEN_TO_ALL = {"/", "/healthz", "/readyz", "/openapi.json", "/web/{name}", "/web/{version}/{name}"}
# Tells of all tenants at once.
OF_ALL_TENANTS = {"GET /metrics"}
NOT_LET_IN = {401, 403, 404}
# Of the route itself: whoever hears it has been let in.
OWN_REFUSALS = {"client_unknown"}


def doors() -> list[Door]:
    """Laid out without a connection, while tests are collected: each door is a test of its own."""
    counters = Counters()
    nowhere = Standalone(dial_of("redis://127.0.0.1:1"), counters)
    bus = Bus(BusSettings(), cast("Commands", None), counters=counters, deployment=nowhere)
    return list(doors_of(create_app(bus, read_settings()).routes))


@dataclass(frozen=True)
class Sample:
    """A request that a route takes. ``{run}`` stands for the id of an execution."""

    json: Any = None
    params: dict[str, str] = field(default_factory=dict)
    names_a_run: bool = False


SAMPLES = {
    "POST /v1/executions": Sample({"pipeline": "document", "input": {}}),
    "POST /v1/executions/stream": Sample({"pipeline": "document", "input": {}}),
    "POST /v1/executions/{execution_id}/events": Sample({"type": "log", "data": 1}),
    "POST /v1/executions/{execution_id}/signals": Sample({"name": "go"}),
    "POST /v1/executions/{execution_id}/cancel": Sample({}),
    "POST /v1/executions/{execution_id}/pause": Sample({}),
    "POST /v1/executions/{execution_id}/resume": Sample({}),
    "GET /v1/stream": Sample(params={"execution": "{run}"}, names_a_run=True),
    "POST /v1/tickets": Sample({"execution_id": "{run}"}, names_a_run=True),
    "POST /v1/revocations": Sample({"kind": "token", "value": "nobody's"}),
}
GUARDED = [door for door in doors() if door.requirement is not None]
HTTP = [door for door in GUARDED if door.method != "WS"]
SOCKETS = [door for door in GUARDED if door.method == "WS"]
OF_RUNS = [door for door in HTTP if door.names_a_run or SAMPLES.get(str(door), Sample()).names_a_run]

each_http = pytest.mark.parametrize("door", HTTP, ids=str)
each_of_runs = pytest.mark.parametrize("door", OF_RUNS, ids=str)
each_socket = pytest.mark.parametrize("door", SOCKETS, ids=str)


@pytest.fixture
async def own_run(bus: Bus) -> str:
    return await bus.submit("document", tenant="acme")


@pytest.fixture
async def others_run(bus: Bus) -> str:
    return await bus.submit("document", tenant="globex")


@asynccontextmanager
async def asked(
    client: httpx.AsyncClient, door: Door, run: str, headers: dict[str, str]
) -> AsyncGenerator[httpx.Response, None]:
    """The answer, its body unread: it may never end."""
    sample = SAMPLES.get(str(door), Sample())
    content = None if sample.json is None else orjson.dumps(sample.json).replace(b"{run}", run.encode())
    params = {name: value.replace("{run}", run) for name, value in sample.params.items()}
    path = re.sub(r"\{\w+\}", "none-of-ours", door.path.replace("{execution_id}", run))
    said = headers if content is None else {**headers, "Content-Type": "application/json"}
    async with client.stream(door.method, path, params=params, content=content, headers=said) as response:
        yield response


async def status_of(client: httpx.AsyncClient, door: Door, run: str, headers: dict[str, str]) -> int:
    """200 for who was let in and then told that what he wants is not there."""
    async with asked(client, door, run, headers) as response:
        own = response.status_code == 404 and orjson.loads(await response.aread())["code"] in OWN_REFUSALS
        return 200 if own else response.status_code


async def refusal_of(
    client: httpx.AsyncClient, door: Door, run: str, headers: dict[str, str]
) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Status, body and headers, in which an id stands for any other."""
    async with asked(client, door, run, headers) as response:
        assert response.status_code in NOT_LET_IN, f"{door} let {run} be used"
        body = (await response.aread()).replace(run.encode(), b"RUN")
        told = [(name, value) for name, value in response.headers.items() if name not in VARYING]
        return response.status_code, body, told


def test_every_route_asks_who_calls_or_is_meant_for_all() -> None:
    assert {door.path for door in doors() if door.requirement is None} <= OPEN_TO_ALL
    assert len(HTTP) >= 8
    assert len(SOCKETS) == 2


def test_a_route_that_asks_nobody_is_found() -> None:
    router = APIRouter()

    @router.get("/forgotten")
    async def forgotten() -> None: ...

    with pytest.raises(UnguardedError, match="/forgotten"):
        list(doors_of(router.routes))


@each_http
async def test_nobody_gets_in_without_a_credential(client: httpx.AsyncClient, door: Door, own_run: str) -> None:
    for run in (own_run, "unknown"):
        async with asked(client, door, run, {}) as response:
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert orjson.loads(await response.aread())["code"] == "unauthenticated"


@each_http
async def test_a_route_opens_for_its_scopes_and_for_no_others(
    client: httpx.AsyncClient, issuer: Issuer, door: Door, own_run: str
) -> None:
    assert door.requirement is not None
    wanted = set(door.requirement.scopes)
    assert wanted, f"{door} asks for no scope"
    tenant = "*" if str(door) in OF_ALL_TENANTS else "acme"
    assert await status_of(client, door, own_run, issuer.headers(scopes=wanted, tenant=tenant)) not in NOT_LET_IN
    for scope in SCOPES:
        if {scope} == wanted:
            continue
        async with asked(client, door, own_run, issuer.headers(scopes=[scope])) as response:
            assert response.status_code == 403, f"{door} let in {scope!r}"
            assert orjson.loads(await response.aread())["code"] == "insufficient_scope"
    without = issuer.headers(scopes=set(SCOPES) - wanted)
    assert await status_of(client, door, own_run, without) == 403


@pytest.mark.parametrize("door", [door for door in HTTP if str(door) in OF_ALL_TENANTS], ids=str)
async def test_what_tells_of_all_tenants_is_not_for_the_admin_of_one(
    client: httpx.AsyncClient, issuer: Issuer, door: Door, own_run: str
) -> None:
    assert await status_of(client, door, own_run, issuer.headers()) == 403
    assert await status_of(client, door, own_run, issuer.headers(tenant="*", runs=["acme__*"])) == 403


@each_of_runs
async def test_another_tenants_run_is_answered_like_one_that_nobody_has(
    client: httpx.AsyncClient, issuer: Issuer, door: Door, others_run: str
) -> None:
    unknown = others_run[:-4] + "ffff"
    headers = issuer.headers()
    refused = await refusal_of(client, door, others_run, headers)
    assert refused == await refusal_of(client, door, unknown, headers)
    assert refused[0] == 404


@each_of_runs
async def test_a_run_that_the_tokens_patterns_do_not_name_is_answered_so_too(
    client: httpx.AsyncClient, issuer: Issuer, bus: Bus, door: Door
) -> None:
    await bus.submit("document", execution_id="acme__nightly-1", tenant="acme")
    await bus.submit("document", execution_id="acme__secret-1", tenant="acme")
    headers = issuer.headers(runs=["acme__nightly-*"])
    assert await status_of(client, door, "acme__nightly-1", headers) not in NOT_LET_IN
    refused = await refusal_of(client, door, "acme__secret-1", headers)
    assert refused == await refusal_of(client, door, "acme__secret-2", headers)
    assert refused[0] == 404


@each_of_runs
async def test_a_tenants_run_is_not_for_tokens_without_a_tenant_but_for_those_of_all(
    client: httpx.AsyncClient, issuer: Issuer, door: Door, own_run: str
) -> None:
    assert await status_of(client, door, own_run, issuer.headers(tenant=None)) == 404
    assert await status_of(client, door, own_run, issuer.headers(tenant="*")) not in NOT_LET_IN


@each_of_runs
async def test_a_scope_is_missed_before_anything_is_said_of_a_run(
    client: httpx.AsyncClient, issuer: Issuer, door: Door, own_run: str, others_run: str
) -> None:
    headers = issuer.headers(scopes=[])
    answers = [await refusal_of(client, door, run, headers) for run in (own_run, others_run, "unknown")]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 403


@each_socket
async def test_a_socket_opens_with_a_credential_only(gateway_url: str, door: Door, own_run: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with connected(socket_url(gateway_url, door, own_run)):
            pass
    assert refusal.value.response.status_code == 401


@each_socket
async def test_over_a_socket_only_read_reads_and_another_tenants_run_is_unknown(
    gateway_url: str, issuer: Issuer, door: Door, own_run: str, others_run: str
) -> None:
    said = [
        await subscribed(gateway_url, door, run, issuer.headers(scopes=["read"]))
        for run in (own_run, others_run, others_run[:-4] + "ffff")
    ]
    assert said[0]["op"] == "subscribed"
    assert said[1]["code"] == "execution_unknown"
    assert said[1] == said[2]


@each_socket
@pytest.mark.parametrize("scope", [scope for scope in SCOPES if scope != "read"])
async def test_over_a_socket_no_other_scope_reads(
    gateway_url: str, issuer: Issuer, door: Door, own_run: str, scope: str
) -> None:
    headers = issuer.headers(scopes=[scope])
    if door.names_a_run:
        with pytest.raises(websockets.InvalidStatus) as refusal:
            async with connected(socket_url(gateway_url, door, own_run), additional_headers=headers):
                pass
        assert refusal.value.response.status_code == 403
    else:
        assert (await subscribed(gateway_url, door, own_run, headers))["code"] == "insufficient_scope"


def socket_url(gateway_url: str, door: Door, run: str) -> str:
    return gateway_url.replace("http", "ws", 1) + door.path.replace("{execution_id}", run)


async def subscribed(gateway_url: str, door: Door, run: str, headers: dict[str, str]) -> dict[str, Any]:
    """What a socket answers who wants to watch a run, its id left out."""
    async with connected(socket_url(gateway_url, door, run), additional_headers=headers) as client:
        if door.names_a_run:
            answer = await client.until(lambda said: said["op"] in {"subscribed", "error"})
            if answer["op"] == "error":
                assert await client.closed() == 4404
        else:
            answer = await client.ask("subscribe", execution=run)
    told: dict[str, Any] = orjson.loads(orjson.dumps(answer).replace(run.encode(), b"RUN"))
    return told
