"""Connections that never ask for anything, or ask very slowly: bounded, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import httpx
import pytest

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import GatewayProcess, live_gateway
from tests.patience import patient, stretched

pytestmark = pytest.mark.anyio

HALF_OPEN = 10_000
HEAD_SECONDS = 2.0


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@pytest.mark.slow
async def test_ten_thousand_half_open_connections_do_not_stop_service(bus: Bus, server_url: str, prefix: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, HALF_OPEN + 2000), hard))
    silent: list[asyncio.StreamWriter] = []
    try:
        with GatewayProcess(redis_url=server_url, prefix=prefix, head_seconds="20") as gateway:
            netloc = urlsplit(gateway.url())
            for first in range(0, HALF_OPEN, 500):
                opened = await asyncio.gather(
                    *(asyncio.open_connection(netloc.hostname, netloc.port) for _ in range(500))
                )
                for index, (_, writer) in enumerate(opened):
                    if index % 2:
                        writer.write(b"GET /v1/executions/run HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
                    silent.append(writer)
                assert len(silent) == first + 500
            async with bus.execution("run") as execution, httpx.AsyncClient(base_url=gateway.url()) as client:
                await execution.append("custom.a", {})
                begun = time.monotonic()
                assert (await client.get("/readyz")).status_code == 200
                assert (await client.get("/v1/executions/run")).json()["status"] == "running"
                # Ten seconds would be a stop; how many milliseconds it takes is for the bench.
                assert time.monotonic() - begun < stretched(10)
                async with client.stream("GET", "/v1/executions/run/events") as answer:
                    assert answer.status_code == 200
                    async for line in answer.aiter_lines():
                        if line == "event: custom.a":
                            break
    finally:
        for writer in silent:
            writer.transport.abort()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_who_says_nothing_is_closed_and_who_says_too_little_is_told(server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix, head_seconds=str(HEAD_SECONDS)) as gateway:
        netloc = urlsplit(gateway.url())
        silent, slow = [await asyncio.open_connection(netloc.hostname, netloc.port) for _ in range(2)]
        slow[1].write(b"GET /readyz HTTP/1.1\r\nHost: 127")
        async with asyncio.timeout(patient(HEAD_SECONDS + 10)):
            assert await silent[0].read() == b""
            assert (await slow[0].read()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        for _, writer in (silent, slow):
            writer.close()


async def test_a_connection_that_has_been_answered_may_be_slow_to_ask_again_but_not_in_asking(
    server_url: str, prefix: str
) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix, head_seconds=str(HEAD_SECONDS)) as gateway:
        netloc = urlsplit(gateway.url())
        reader, writer = await asyncio.open_connection(netloc.hostname, netloc.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        # Longer than a head may take, and kept alive all the same.
        await reader.readuntil(b"}")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1000), HEAD_SECONDS + 1.5)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: ")
        async with asyncio.timeout(patient(HEAD_SECONDS + 10)):
            assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_a_head_without_end_is_refused(server_url: str, prefix: str) -> None:
    with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
        netloc = urlsplit(gateway.url())
        reader, writer = await asyncio.open_connection(netloc.hostname, netloc.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        async with asyncio.timeout(patient(20)):
            answer = asyncio.create_task(reader.read())
            with contextlib.suppress(ConnectionError):
                while not answer.done():
                    writer.write(b"X-Filler: " + b"x" * 8000 + b"\r\n")
                    await writer.drain()
                    await asyncio.sleep(0)
            # Cut while we still sent: what it said may be lost with the connection, the bound is kept all the same.
            with contextlib.suppress(ConnectionError):
                assert (await answer).startswith(b"HTTP/1.1 431")
        writer.transport.abort()


@pytest.mark.parametrize("drip", [b"x", b"\r\n"])
async def test_attack_44_what_was_answered_without_its_body_is_closed_though_bytes_drip(bus: Bus, drip: bytes) -> None:
    """The answer stands; the body that it did not wait for has no longer than a head has."""
    settings = read_settings(drain_seconds=0, head_seconds=0.5, jwt_hs256_keys="k" * 32)
    async with live_gateway(bus, settings) as url:
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        writer.write(b"POST /v1/executions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")
        end = asyncio.create_task(reader.read())
        async with asyncio.timeout(patient(10)):
            while not end.done():
                writer.write(drip)
                await asyncio.wait([end], timeout=0.1)
        assert (await end).endswith(b"}")
        writer.close()


async def test_attack_44_one_address_has_few_connections_without_a_request(server_url: str, prefix: str) -> None:
    """Its others are told so, and other addresses are served."""
    options = {"max_connections_per_ip": "40", "jwt_hs256_keys": "k" * 32}
    with GatewayProcess(redis_url=server_url, prefix=prefix, **options) as gateway:
        host, port = urlsplit(gateway.url()).hostname, urlsplit(gateway.url()).port
        async with contextlib.AsyncExitStack() as opened:

            async def ended(writer: asyncio.StreamWriter) -> None:
                writer.transport.abort()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

            async def connect(local: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                connection = await asyncio.open_connection(host, port, local_addr=(local, 0))
                opened.push_async_callback(ended, connection[1])
                return connection

            async def status(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
                async with asyncio.timeout(patient(10)):
                    return (await connection[0].readuntil(b"\r\n"))[9:12]

            asked = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            waiting = [await connect() for _ in range(39)]
            answered = await connect()
            answered[1].write(asked)
            assert await status(answered) == b"200"
            assert await status(await connect()) == b"429"
            other = await connect("127.0.0.2")
            other[1].write(asked)
            assert await status(other) == b"200"
            waiting[0][1].close()
            async with asyncio.timeout(patient(10)):
                while True:
                    again = await connect()
                    again[1].write(asked)
                    if await status(again) == b"200":
                        break


async def test_attack_44_thousands_of_pipelined_requests_delay_nobody(bus: Bus) -> None:
    longest = 0.0
    loop = asyncio.get_running_loop()

    async def watch_loop() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before - 0.005)

    async with live_gateway(bus) as url:
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        watching = asyncio.create_task(watch_loop())
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 9000)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(patient(10)):
                assert (await reader.read()).count(b"HTTP/1.1 200") < 100
        watching.cancel()
        writer.close()
    assert longest < stretched(0.1), f"the loop stood still for {longest:.3f} s"
