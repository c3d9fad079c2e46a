from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailrace.gateway.access.guard import CrashGuard, HostGuard, check_local, host_name
from tailrace.gateway.auth.refusals import ForbiddenError

pytestmark = pytest.mark.anyio


async def call(app: ASGIApp, *, host: str | None = "127.0.0.1:8080", kind: str = "http", **more: Any) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if host is None else [(b"host", host.encode())]
    await app({"type": kind, "method": "GET", "path": "/x", "headers": headers, **more}, receive, send)
    return sent


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:80", "[::1]:8080", "BUS.example:1", None])
async def test_hosts_that_are_ours_are_let_in(host: str | None) -> None:
    sent = await call(HostGuard(fine, allowed=["bus.example"]), host=host)
    assert sent[0]["status"] == 204


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "[::2]:1", "localhost.evil.example"])
async def test_a_rebound_name_is_turned_away(host: str) -> None:
    sent = await call(HostGuard(fine, allowed=["bus.example"]), host=host)
    assert sent[0]["status"] == 421
    assert orjson.loads(sent[1]["body"])["code"] == "host_not_allowed"


async def test_a_star_lets_every_host_in() -> None:
    sent = await call(HostGuard(fine, allowed=["*"]), host="any.example")
    assert sent[0]["status"] == 204


@pytest.mark.parametrize("hosts", [[], ["localhost", "evil.example"], ["localhost", "localhost"]])
async def test_attack_51_an_http_1_1_request_has_one_host(hosts: list[str]) -> None:
    headers = [(b"host", host.encode()) for host in hosts]
    sent = await call(HostGuard(fine, allowed=["*"]), headers=headers, http_version="1.1")
    assert sent[0]["status"] == 400
    assert orjson.loads(sent[1]["body"])["code"] == "invalid_host"


@pytest.mark.parametrize("client", ["192.0.2.7", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.7"])
def test_attack_49_without_keys_a_client_of_another_machine_is_refused(client: str) -> None:
    with pytest.raises(ForbiddenError) as refused:
        check_local({"type": "http", "client": (client, 1)})
    assert (refused.value.problem.status, refused.value.problem.code) == (403, "local_clients_only")


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1), ("testclient", 1), None])
def test_clients_of_this_machine_are_served_also_over_a_unix_socket(client: tuple[str, int] | None) -> None:
    check_local({"type": "http", "client": client})


@pytest.mark.parametrize(
    ("header", "name"), [("A.example:80", "a.example"), ("[::1]:8080", "::1"), ("[::1", "::1"), ("x", "x"), (":1", "")]
)
async def test_a_host_header_is_split_from_its_port(header: str, name: str) -> None:
    assert host_name(header) == name


async def test_an_unforeseen_error_is_logged_once_and_answered_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("a secret")

    sent = await call(CrashGuard(broken))
    assert sent[0]["status"] == 500
    body = orjson.loads(sent[1]["body"])
    assert body["code"] == "internal_error"
    assert "secret" not in sent[1]["body"].decode()
    assert len(caplog.records) == 1
    assert body["error_id"] in caplog.text
    assert "a secret" in caplog.text


async def test_an_error_in_mid_response_is_logged_and_not_answered_twice(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("late")

    sent = await call(CrashGuard(breaks_off))
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert len(caplog.records) == 1


async def test_a_client_that_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    with caplog.at_level(logging.DEBUG):
        assert await call(CrashGuard(left)) == []
    assert not caplog.records


async def test_the_lifespan_passes_through_both_guards() -> None:
    seen: list[str] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await call(CrashGuard(HostGuard(note, allowed=[])), host="evil.example", kind="lifespan")
    assert seen == ["lifespan"]
