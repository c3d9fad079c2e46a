"""Pages of other origins: who may read us (CORS), and from which a cookie is taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest
import websockets

from tailrace.bus import Bus
from tailrace.gateway.settings import read_settings
from tests.integration.auth.issuer import SECRET, Issuer
from tests.integration.gateway.live import live_gateway
from tests.integration.ws.client import connected

pytestmark = pytest.mark.anyio

APP, EVIL = "https://app.example", "https://evil.example"
RUN = "acme__build-7"
PATH = f"/v1/executions/{RUN}"


@pytest.fixture
async def url(bus: Bus) -> AsyncGenerator[str, None]:
    await bus.submit("document", execution_id=RUN, tenant="acme")
    settings = read_settings(drain_seconds=0, jwt_hs256_keys=SECRET, allowed_origins=APP)
    async with live_gateway(bus, settings) as opened:
        yield opened


@pytest.fixture
async def client(url: str) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with httpx.AsyncClient(base_url=url) as opened:
        yield opened


async def preflight(client: httpx.AsyncClient, origin: str, headers: str) -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": headers,
    }
    return await client.options(f"{PATH}/events", headers=asked)


async def test_a_page_may_ask_with_a_token_and_resume(client: httpx.AsyncClient) -> None:
    answer = await preflight(client, APP, "authorization,last-event-id")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert {"authorization", "last-event-id", "content-type"} <= {name.strip() for name in allowed.split(",")}
    assert int(answer.headers["access-control-max-age"]) > 0


async def test_a_page_of_another_origin_may_not(client: httpx.AsyncClient, issuer: Issuer) -> None:
    answer = await preflight(client, EVIL, "authorization")
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    read = await client.get(PATH, headers={**issuer.headers(), "Origin": EVIL})
    assert "access-control-allow-origin" not in read.headers


async def test_answers_and_refusals_and_streams_can_be_read_by_the_page(
    client: httpx.AsyncClient, issuer: Issuer
) -> None:
    for headers, path, status in (
        (issuer.headers(), PATH, 200),
        ({}, PATH, 401),
        (issuer.headers(), "/v1/executions/unknown", 404),
        (issuer.headers(), f"{PATH}/events", 200),
    ):
        async with client.stream("GET", path, headers={**headers, "Origin": APP}) as answer:
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == APP
            assert "origin" in answer.headers["vary"].lower()
            exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
            assert {"location", "retry-after", "www-authenticate"} <= exposed


@pytest.mark.parametrize(("origin", "status"), [(APP, 200), (EVIL, 403), ("null", 403), (None, 200)])
async def test_a_cookie_is_taken_from_pages_that_may_use_it(
    client: httpx.AsyncClient, issuer: Issuer, origin: str | None, status: int
) -> None:
    headers = {"Cookie": f"tailrace_token={issuer.token()}", **({} if origin is None else {"Origin": origin})}
    answer = await client.get(PATH, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "origin_not_allowed"
    else:
        assert answer.headers.get("access-control-allow-credentials", "true") == "true"


@pytest.mark.parametrize(("own", "status"), [(True, 200), (False, 403)])
async def test_with_a_cookie_nothing_is_changed_but_by_a_page_that_says_where_it_is_from(
    client: httpx.AsyncClient, url: str, issuer: Issuer, own: bool, status: int
) -> None:
    headers = {"Cookie": f"tailrace_token={issuer.token()}", **({"Origin": url} if own else {})}
    answer = await client.post(f"{PATH}/events", headers=headers, json={"type": "log", "data": 1})
    assert answer.status_code == status


@pytest.mark.parametrize(("origin", "opens"), [(APP, True), (EVIL, False), (None, False)])
async def test_no_strange_page_opens_a_socket_with_a_cookie(
    url: str, issuer: Issuer, origin: str | None, opens: bool
) -> None:
    headers = {"Cookie": f"tailrace_token={issuer.token()}"}
    target = f"{url.replace('http', 'ws', 1)}{PATH}/ws"
    if opens:
        async with connected(target, additional_headers=headers, origin=origin) as socket:
            await socket.until("subscribed")
    else:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connected(target, additional_headers=headers, origin=origin):
                pass
        assert refused.value.response.status_code == 403


async def test_a_header_goes_before_a_ticket_and_a_cookie(client: httpx.AsyncClient, issuer: Issuer) -> None:
    headers = {**issuer.headers(), "Cookie": "tailrace_token=nonsense", "Origin": EVIL}
    assert (await client.get(PATH, params={"ticket": "nonsense"}, headers=headers)).status_code == 200


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "bearer", "Token x", ""])
async def test_an_authorization_that_is_no_bearer_is_refused(client: httpx.AsyncClient, value: str) -> None:
    answer = await client.get(PATH, headers={"Authorization": value})
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")


async def test_two_credentials_of_one_kind_are_none(client: httpx.AsyncClient, issuer: Issuer) -> None:
    headers = [("Authorization", f"Bearer {issuer.token()}"), ("Authorization", f"Bearer {issuer.token()}")]
    assert (await client.get(PATH, headers=headers)).status_code == 401


async def test_without_auth_pages_of_this_machine_are_welcome_and_no_others(bus: Bus) -> None:
    async with live_gateway(bus) as url, httpx.AsyncClient(base_url=url) as client:
        for origin, welcome in (
            ("http://localhost:3000", True),
            (EVIL, False),
            ("http://localhost.evil.example", False),
        ):
            answer = await client.get("/v1/executions", headers={"Origin": origin})
            assert ("access-control-allow-origin" in answer.headers) is welcome
            assert "access-control-allow-credentials" not in answer.headers


async def test_a_gateway_that_asks_for_credentials_answers_by_any_name(bus: Bus, url: str, issuer: Issuer) -> None:
    async with httpx.AsyncClient(base_url=url, headers={"Host": "bus.example"}) as client:
        assert (await client.get(PATH, headers=issuer.headers())).status_code == 200
    async with live_gateway(bus) as open_url, httpx.AsyncClient(base_url=open_url) as client:
        assert (await client.get(PATH, headers={"Host": "bus.example"})).status_code == 421
