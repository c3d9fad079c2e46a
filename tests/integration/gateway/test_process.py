"""The gateway as a process: how it refuses to start, serves, and ends."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import statistics
import time
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import anyio.to_thread
import httpx
import pytest

from tailrace.bus import Bus
from tailrace.gateway.asgi import listener as listening
from tests.integration.gateway.live import GatewayProcess, live_gateway
from tests.patience import patient, stretched
from tests.servers import RunningServer, free_port


def test_a_gateway_says_in_one_line_that_it_is_ready_and_where(server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
        url = gateway.url()
        assert httpx.get(f"{url}/readyz").status_code == 200
        assert gateway.output == [f"gateway ready at {url} (tail tracking, prefix {prefix}, pid {gateway.pid})"]


def test_without_redis_a_gateway_refuses_to_start_in_one_line() -> None:
    port = free_port()
    with GatewayProcess(redis_url=f"redis://:pass-word@127.0.0.1:{port}") as gateway:
        code, _ = gateway.wait()
        assert code == 2
        assert len(gateway.errors) == 1, gateway.errors
        assert f"cannot reach Redis at redis://:***@127.0.0.1:{port}" in gateway.errors[0]
        assert "pass-word" not in gateway.errors[0]
        assert "check that Redis is running there, or name another with --redis-url" in gateway.errors[0]
        assert gateway.output == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "redis://127.0.0.1:x", "nonsense"])
def test_an_unusable_redis_url_is_one_line_too(url: str) -> None:
    with GatewayProcess(redis_url=url) as gateway:
        assert gateway.wait()[0] == 64
        assert len(gateway.errors) == 1, gateway.errors
        assert "redis_url" in gateway.errors[0]


def test_a_redis_that_hangs_is_given_up_in_seconds(fresh_server: RunningServer) -> None:
    fresh_server.pause()
    with GatewayProcess(redis_url=fresh_server.url) as gateway:
        await_connecting(gateway)
        code, took = gateway.wait()
    assert code == 2
    assert took < stretched(15)
    assert len(gateway.errors) == 1, gateway.errors


def test_a_port_in_use_is_one_line_and_its_own_exit_code(server_url: str, prefix: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with GatewayProcess(redis_url=server_url, prefix=prefix, port=str(port)) as gateway:
            assert gateway.wait()[0] == 3
            cure = "the port is in use; choose another with --port or TAILRACE_PORT"
            assert gateway.errors == [f"tailrace gateway: cannot listen on 127.0.0.1:{port}: {cure}"]


def test_a_port_that_two_bound_at_the_same_time_is_refused_to_the_second() -> None:
    with listening.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with listening.bind("127.0.0.1", port) as second:
            listening.listen(first)
            with pytest.raises(listening.ListenError, match="the port is in use"):
                listening.listen(second)


def test_a_forbidden_port_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbid)
    with pytest.raises(listening.ListenError, match=r"127\.0\.0\.1:80: permission denied; ports below 1024"):
        listening.bind("127.0.0.1", 80)


def test_an_address_that_is_not_ours_is_explained() -> None:
    with pytest.raises(listening.ListenError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        listening.bind("192.0.2.1", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_idle_gateway_ends_at_once_with_code_zero(server_url: str, prefix: str, number: signal.Signals) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
        httpx.get(f"{gateway.url()}/healthz")
        gateway.signal(number)
        code, took = gateway.wait()
    assert code == 0
    assert took < stretched(3)
    assert not any("Traceback" in line for line in gateway.errors)


def test_failure_26_open_streams_do_not_hold_up_a_shutdown(server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="1") as gateway, ExitStack() as stack:
        url = gateway.url()
        submit(url, "e")
        streams = [stack.enter_context(closing(open_stream(url, "e"))) for _ in range(20)]
        gateway.signal(signal.SIGTERM)
        code, took = gateway.wait()
        received = [read_all(stream) for stream in streams]
    assert code == 0
    assert took < stretched(1 + 4)
    assert all("event: stream.reconnect" in text for text in received)
    assert not any("Traceback" in line for line in gateway.errors)


def test_failure_26_a_viewer_that_stopped_reading_does_not_hold_up_a_shutdown(server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="0.5") as gateway, ExitStack() as stack:
        url = gateway.url()
        submit(url, "e", {"filler": "x" * 200_000})
        streams = [
            stack.enter_context(closing(open_stream(url, "e", receive_buffer_bytes=2048, read_head=False)))
            for _ in range(5)
        ]
        gateway.signal(signal.SIGTERM)
        code, took = gateway.wait()
        del streams
    assert code == 0
    assert took < stretched(0.5 + 6.5)


def test_a_draining_gateway_takes_no_new_connections_but_answers_on_open_ones(server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="3") as gateway, ExitStack() as stack:
        url = gateway.url()
        submit(url, "e")
        # The drain lasts as long as there are viewers to send away one by one.
        for _ in range(10):
            stack.enter_context(closing(open_stream(url, "e")))
        with httpx.Client(base_url=url) as client:
            assert client.get("/readyz").status_code == 200
            gateway.signal(signal.SIGTERM)
            deadline = time.monotonic() + patient(5)
            while (answer := client.get("/readyz")).status_code == 200 and time.monotonic() < deadline:
                pass
            assert answer.json()["reasons"] == ["draining"]
            # An EventSource tries a refused connection again; a 503 would end it for good.
            await_refused(url)
        assert gateway.wait()[0] == 0


def test_a_second_signal_ends_the_drain(server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix, drain_seconds="60") as gateway, ExitStack() as stack:
        url = gateway.url()
        submit(url, "e")
        for _ in range(10):
            stack.enter_context(closing(open_stream(url, "e")))
        gateway.signal(signal.SIGTERM)
        await_refused(url)
        gateway.signal(signal.SIGTERM)
        code, took = gateway.wait()
    assert code == 0
    assert took < stretched(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_while_connecting_ends_it_without_a_traceback(
    fresh_server: RunningServer, number: signal.Signals
) -> None:
    fresh_server.pause()
    with GatewayProcess(redis_url=fresh_server.url) as gateway:
        await_connecting(gateway)
        gateway.signal(number)
        code, took = gateway.wait()
    assert code == 0
    assert took < stretched(3)
    assert not any("Traceback" in line for line in gateway.errors), gateway.errors


def test_a_gateway_opens_as_many_files_as_the_system_lets_it(server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
        gateway.url()
        limits = Path(f"/proc/{gateway.pid}/limits").read_text()
    found = re.search(r"^Max open files\s+(\S+)\s+(\S+)", limits, re.MULTILINE)
    assert found is not None
    assert found[1] == found[2]


def test_a_kept_alive_request_does_not_wait_for_a_delayed_acknowledgement(server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
        assert median_seconds(gateway.url()) < stretched(0.02)


@pytest.mark.anyio
async def test_nor_does_it_on_plain_asyncio(bus: Bus) -> None:
    async with live_gateway(bus) as url:
        assert await anyio.to_thread.run_sync(median_seconds, url) < stretched(0.02)


def median_seconds(url: str) -> float:
    """Of a request and its answer over one kept-alive connection."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    taken = []
    with closing(connection):
        for _ in range(60):
            begun = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def submit(url: str, execution_id: str, given: dict[str, str] | None = None) -> None:
    body = {"pipeline": "document", "execution_id": execution_id, "input": given or {}}
    assert httpx.post(f"{url}/v1/executions", json=body).status_code == 202


def open_stream(
    url: str, execution_id: str, *, receive_buffer_bytes: int | None = None, read_head: bool = True
) -> socket.socket:
    """An SSE connection, whose stream has begun."""
    address = urlsplit(url)
    stream = socket.socket()
    if receive_buffer_bytes is not None:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    stream.connect((address.hostname, address.port))
    stream.settimeout(patient(20))
    stream.sendall(
        f"GET /v1/executions/{execution_id}/events HTTP/1.1\r\nHost: {address.netloc}\r\n"
        "Accept: text/event-stream\r\n\r\n".encode()
    )
    if read_head:
        head = b""
        while b"stream.caught_up" not in head:
            received = stream.recv(65536)
            assert received, head
            head += received
        assert head.startswith(b"HTTP/1.1 200"), head
    return stream


def read_all(stream: socket.socket) -> str:
    received = b""
    while chunk := stream.recv(65536):
        received += chunk
    return received.decode()


def await_refused(url: str) -> None:
    address = urlsplit(url)
    deadline = time.monotonic() + patient(5)
    while time.monotonic() < deadline:
        try:
            # Reset instead: it was still in the listener's queue when that closed.
            with contextlib.suppress(ConnectionResetError):
                socket.create_connection((address.hostname, address.port), timeout=patient(5)).close()
        except ConnectionRefusedError:
            return
    raise AssertionError("the gateway still takes connections")


def await_connecting(gateway: GatewayProcess) -> None:
    """Wait until the gateway's process has a socket: it has come to connecting."""
    deadline = time.monotonic() + patient(20)
    while time.monotonic() < deadline:
        links = Path(f"/proc/{gateway.pid}/fd").iterdir()
        with contextlib.suppress(FileNotFoundError):
            # One is the listener; the next ones are the loop's own pair, and Redis.
            if sum("socket:" in str(link.readlink()) for link in links) > 3:
                return
    raise AssertionError("the gateway never connected")
