"""Case 30: EventSource sends no headers, tokens expire in mid-stream, and ids of other sessions can be guessed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from uuid import uuid4

import httpx
import jwt
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.gateway.auth.api_keys import new_api_key
from tests.e2e.logs import append_events, ids_of, log_ids
from tests.e2e.sse_client import open_stream
from tests.e2e.sse_frames import Frame
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient

pytestmark = pytest.mark.anyio

SECRET = "a-secret-of-the-tests-long-enough-to-sign-with"
TOKEN_SECONDS = 2.0


def token(subject: str = "ann", *, tenant: str = "acme", seconds: float = 300.0, jti: str | None = None) -> str:
    said = {"sub": subject, "tenant": tenant, "scope": "read submit admin", "exp": time.time() + seconds}
    return jwt.encode({**said, "jti": jti or uuid4().hex, "iat": int(time.time())}, SECRET, "HS256")


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@dataclass
class Site:
    """Two gateways that ask for credentials, and the bus behind them."""

    urls: tuple[str, str]
    bus: Bus

    async def submit(self, tenant: str) -> str:
        async with httpx.AsyncClient(base_url=self.urls[0]) as client:
            headers = bearer(token(tenant=tenant))
            answer = await client.post("/v1/executions", headers=headers, json={"pipeline": "document"})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["execution_id"])

    async def ticket(self, run: str, text: str, *, gateway: int = 0) -> str:
        async with httpx.AsyncClient(base_url=self.urls[gateway]) as client:
            answer = await client.post("/v1/tickets", headers=bearer(text), json={"execution_id": run})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["ticket"])


@pytest.fixture(scope="module")
def gateways(server_url: str, module_prefix: str) -> Iterator[tuple[str, str]]:
    settings = {"redis_url": server_url, "prefix": module_prefix, "jwt_hs256_keys": SECRET, "ticket_seconds": "2"}
    with ExitStack() as stack:
        one, two = (stack.enter_context(GatewayProcess(**settings)) for _ in range(2))
        yield one.url(), two.url()


@pytest.fixture
async def site(gateways: tuple[str, str], bus: Bus) -> Site:
    return Site(gateways, bus)


async def test_case_30_a_viewer_without_headers_resumes_over_token_expiries_and_gateways_and_misses_nothing(
    site: Site,
) -> None:
    run = await site.submit("acme")
    publishing = asyncio.create_task(_publish_for(site.bus, run, seconds=3.5 * TOKEN_SECONDS))
    seen: list[Frame] = []
    endings: list[str] = []
    cursor: str | None = None
    async with asyncio.timeout(patient(60)):
        while not endings or endings[-1] != "stream.end":
            gateway = len(endings) % 2
            # What a page does when its session has a new token: another ticket, and the id it saw last.
            ticket = await site.ticket(run, token(seconds=TOKEN_SECONDS), gateway=gateway)
            async with open_stream(site.urls[gateway], run, after=cursor, query={"ticket": ticket}) as stream:
                assert stream.status == 200, await stream.body()
                frames = await stream.rest()
                assert stream.complete
            last = frames[-1]
            assert last.is_control
            if last.name == "stream.error":
                assert last.payload["code"] == "token_expired"
            endings.append(str(last.name))
            seen += frames
            cursor = next((frame.id for frame in reversed(frames) if frame.id is not None), cursor)
    await publishing
    assert endings.count("stream.error") >= 2
    assert ids_of(seen) == await log_ids(site.bus, run)


async def test_case_30_a_ticket_that_has_expired_ends_an_eventsource_so_that_it_gets_a_new_one(site: Site) -> None:
    run = await site.submit("acme")
    ticket = await site.ticket(run, token())
    deadline = time.monotonic() + 20
    while True:
        async with open_stream(site.urls[1], run, query={"ticket": ticket}) as stream:
            if stream.status != 200:
                break
        assert time.monotonic() < deadline
        # A page that asks in a loop is soon told to ask less often, which is not what is looked for here.
        await asyncio.sleep(0.25)
    assert stream.status == 401


async def test_case_30_a_cursor_and_an_id_of_another_session_replay_nothing_and_tell_nothing(site: Site) -> None:
    own, others = await site.submit("acme"), await site.submit("globex")
    await append_events(site.bus, others, 5)
    cursor = (await log_ids(site.bus, others))[0]
    own_ticket = await site.ticket(own, token())
    unknown = others[:-4] + "0000"
    bodies: list[bytes] = []
    for run in (others, unknown):
        for query, headers in (({"ticket": own_ticket}, {}), ({}, bearer(token()))):
            for url in site.urls:
                async with open_stream(url, run, after=cursor, query=query, headers=headers) as stream:
                    assert stream.status == 404
                    bodies.append((await stream.body()).replace(run.encode(), b"RUN"))
    assert len(set(bodies)) == 1
    async with open_stream(site.urls[0], others, headers=bearer(token(tenant="globex"))) as stream:
        assert stream.status == 200


async def test_case_30_whoever_is_revoked_is_gone_within_seconds_from_every_gateway(site: Site) -> None:
    run = await site.submit("acme")
    mine = token("eve", jti="of-eve")
    ticket = await site.ticket(run, mine)
    async with (
        open_stream(site.urls[0], run, headers=bearer(mine)) as here,
        open_stream(site.urls[1], run, query={"ticket": ticket}) as there,
    ):
        for stream in (here, there):
            await stream.until("stream.caught_up")
        async with httpx.AsyncClient(base_url=site.urls[0]) as client:
            said = {"kind": "token", "value": "of-eve"}
            answer = await client.post("/v1/revocations", headers=bearer(token("root")), json=said)
            assert answer.status_code == 204
        for stream in (here, there):
            assert (await stream.rest(seconds=5))[-1].payload["code"] == "token_revoked"


@pytest.fixture
async def quiet_bus(server_url: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=f"t{uuid4().hex[:8]}")) as bus:
        yield bus


async def test_case_30_no_credential_is_ever_written_to_a_log(server_url: str, quiet_bus: Bus) -> None:
    key, digest = new_api_key("ci")
    good, bad, expired = token(), token().swapcase(), token(seconds=-60)
    keys = f'[{{"id":"ci","sha256":"{digest}","subject":"ci","tenant":"acme","scopes":["read"]}}]'
    settings = {
        "redis_url": server_url,
        "prefix": quiet_bus.settings.prefix,
        "jwt_hs256_keys": SECRET,
        "api_keys": keys,
        "access_log": "true",
        "max_connections": "1",
    }
    with GatewayProcess(**settings) as gateway:
        site = Site((gateway.url(), gateway.url()), quiet_bus)
        run = await site.submit("acme")
        ticket = await site.ticket(run, good)
        path = f"/v1/executions/{run}"
        async with httpx.AsyncClient(base_url=gateway.url()) as client:
            for text in (good, bad, expired, key, f"{key}x", ticket):
                await client.get(path, headers=bearer(text))
                await client.get(path, params={"ticket": text})
                await client.get(path, params={"token": text, "access_token": text})
                await client.get(path, headers={"Cookie": f"tailrace_token={text}"})
                await client.post("/v1/tickets", headers=bearer(text), content=text.encode())
                async with open_stream(gateway.url(), run, query={"ticket": text}):
                    pass
        gateway.signal(15)
        assert gateway.wait()[0] == 0
        said = "\n".join([*gateway.output, *gateway.errors])
    assert path in said, "requests are logged"
    for secret in (SECRET, good, bad, expired, key, digest, ticket):
        # Of a token, the signature alone would be too much.
        assert secret not in said
        assert secret.rpartition(".")[2] not in said


async def _publish_for(bus: Bus, run: str, *, seconds: float) -> None:
    publisher = bus.publisher(run)
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline:
        await publisher.emit("custom.counted", {"k": number})
        number += 1
        await asyncio.sleep(0.02)
    await publisher.append("execution.cancel_requested", {"by": "test"})
    await publisher.append("execution.cancelled", {"reason": "cancelled"})
    await publisher.aclose()
