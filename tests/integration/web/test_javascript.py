"""The JavaScript client: in Node behind a proxy that cuts, by its types, as a package, and in a real browser."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

import httpx
import pytest

from tailrace import Bus, BusSettings, open_bus
from tests.chromium import page
from tests.e2e.docs_support_page import Page
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient, stretched
from tests.servers import free_port

pytestmark = pytest.mark.anyio

ROOT: Final = Path(__file__).parents[3]
WEB: Final = ROOT / "gateway" / "web"
NODE: Final = Path(__file__).parent / "node"
TYPES: Final = Path(__file__).parent / "types"
MAX_GZIPPED_BYTES: Final = 9 * 1024
EVENTS: Final = 2


@pytest.fixture
def gateway(server_url: str, prefix: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(redis_url=server_url, prefix=prefix) as process:
        yield process


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


def node() -> str:
    found = shutil.which("node")
    if found is None:
        if os.environ.get("TAILRACE_CI_REQUIRE") == "1":
            pytest.fail("CI requires node")
        pytest.skip("node is not on the PATH; install it with: apt install nodejs")
    return found


@asynccontextmanager
async def cutting(url: str) -> AsyncGenerator[str, None]:
    """A proxy that drops a connection behind so many bytes of a response as ``cut=`` in its URL says."""
    host, port = url.removeprefix("http://").split(":")

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if left is not None:
                    data, left = data[:left], left - len(data)
                writer.write(data)
                await writer.drain()
                if left is not None and left <= 0:
                    break
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            cut = re.search(rb"[?&]cut=(\d+)", head.partition(b"\r\n")[0])
            upstream_reader, upstream = await asyncio.open_connection(host, int(port))
            # One request a connection: which response is cut is then plain.
            upstream.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n").replace(b"keep-alive", b"close"))
            sending = asyncio.create_task(pipe(reader, upstream, None))
            await pipe(upstream_reader, writer, None if cut is None else int(cut[1]))
            sending.cancel()
            upstream.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def publish(bus: Bus, execution_id: str, events: int) -> None:
    async with bus.execution(execution_id) as execution:
        for number in range(events):
            await execution.append("custom.n", {"n": number, "text": "é\u2028"})


@pytest.mark.timeout(240)
async def test_in_node_it_resumes_wherever_it_is_cut_and_says_what_it_cannot_cure(
    bus: Bus, gateway: GatewayProcess
) -> None:
    await publish(bus, "log", EVENTS)
    url = await asyncio.to_thread(gateway.url)
    async with httpx.AsyncClient(base_url=url) as client:
        headers = {"Accept": "application/x-ndjson", "Connection": "close"}
        response = await client.get("/v1/executions/log/events", headers=headers)
    # At every byte of its body and of the chunks it comes in, and now and then in its head.
    head = 20 + sum(len(name) + len(value) + 4 for name, value in response.headers.raw)
    cuts = [*range(0, head, 40), *range(head, head + len(response.content) + 40)]
    async with cutting(url) as proxy:
        environment = {
            "PATH": os.environ["PATH"],
            "GATEWAY": proxy,
            "MODULE": str(WEB / "tailrace.js"),
            "CUTS": json.dumps(cuts),
            "STRETCH": str(stretched(1.0)),
        }
        ran = await asyncio.create_subprocess_exec(
            *(node(), "--test", "--test-reporter=spec", str(NODE / "client.test.mjs")),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output = (await asyncio.wait_for(ran.communicate(), patient(15)))[0].decode()
        finally:
            # The runner has a process of its own for the file.
            with suppress(ProcessLookupError):
                os.killpg(ran.pid, signal.SIGKILL)
    assert ran.returncode == 0, output


def test_it_is_small() -> None:
    assert len(gzip.compress((WEB / "tailrace.js").read_bytes(), 9)) <= MAX_GZIPPED_BYTES


async def test_it_is_served_under_a_url_that_is_kept_and_one_that_is_asked_again(gateway: GatewayProcess) -> None:
    version = metadata.version("tailrace")
    async with httpx.AsyncClient(base_url=await asyncio.to_thread(gateway.url)) as client:
        newest = await client.get("/web/tailrace.js")
        assert (newest.status_code, newest.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        assert newest.headers["cache-control"] == "no-cache"
        assert newest.content == (WEB / "tailrace.js").read_bytes()
        again = await client.get("/web/tailrace.js", headers={"If-None-Match": newest.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        kept = await client.get(f"/web/{version}/tailrace.js")
        assert (kept.content, kept.headers["cache-control"]) == (newest.content, "public, max-age=31536000, immutable")
        for path in ("/web/0.0.1/tailrace.js", "/web/none.js", "/web/..%2fsettings.py", f"/web/{version}/none.js"):
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["code"]) == (404, "not_found"), path


def test_the_package_for_npm_has_the_same_files_and_version() -> None:
    package = json.loads((WEB / "package.json").read_text())
    assert package["version"] == metadata.version("tailrace")
    exported = {Path(each).name for each in package["exports"].values()}
    assert exported == {path.name for path in WEB.glob("*.js")}
    assert set(package["files"]) == exported
    packed = subprocess.run(
        ["npm", "pack", "--dry-run", "--json", "--ignore-scripts"], cwd=WEB, capture_output=True, text=True, check=True
    )
    (described,) = json.loads(packed.stdout)
    assert {each["path"] for each in described["files"]} == exported | {"package.json"}


async def test_the_documented_page_watches_from_another_origin_and_survives_its_gateway(
    bus: Bus, server_url: str, prefix: str, tmp_path: Path
) -> None:
    """The page of docs/browser.md as it stands, but for the gateway's address."""
    (html,) = Page("browser", (ROOT / "docs/browser.md").read_text()).blocks_of("html")
    port, own_port = free_port(), free_port()
    environment = {
        "redis_url": server_url,
        "prefix": prefix,
        "port": str(port),
        "allowed_origins": f"http://127.0.0.1:{own_port}",
    }
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text(html.replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
    serve = ("-m", "http.server", str(own_port), "--bind", "127.0.0.1", "--directory", str(tmp_path / "site"))
    site = await asyncio.create_subprocess_exec(
        sys.executable, *serve, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await eventually(partial(answers, f"http://127.0.0.1:{own_port}/"))
        async with AsyncExitStack() as stack:
            execution = await stack.enter_async_context(bus.execution("hello"))
            with GatewayProcess(**environment) as gateway:
                await asyncio.to_thread(gateway.url)
                await execution.append("custom.n", {"n": 1})
                browser = await stack.enter_async_context(page(f"http://127.0.0.1:{own_port}/", tmp_path))
                await browser.until("document.getElementById('events').textContent.includes('{\"n\":1}')")
                os.kill(gateway.pid, signal.SIGKILL)
            await browser.until("['waiting', 'resuming'].includes(document.getElementById('status').textContent)")
            await execution.append("custom.n", {"n": 2})
            with GatewayProcess(**environment) as gateway:
                await asyncio.to_thread(gateway.url)
                await browser.until("document.getElementById('events').textContent.includes('{\"n\":2}')")
                await execution.complete("done")
                await browser.until("document.getElementById('status').textContent === 'ended'")
            shown = (await browser.evaluate("document.getElementById('events').textContent")).splitlines()
            assert [line.split()[0] for line in shown] == [
                "execution.started",
                "custom.n",
                "custom.n",
                "execution.completed",
            ]
    finally:
        site.kill()
        await site.wait()


async def answers(url: str) -> bool:
    """Somebody serves it."""
    async with httpx.AsyncClient() as client:
        with suppress(httpx.TransportError):
            return (await client.get(url)).is_success
    return False


def test_its_types_are_strict_and_those_that_a_typescript_project_sees(tmp_path: Path) -> None:
    for file in (*WEB.glob("*.js"), *TYPES.iterdir()):
        shutil.copy(file, tmp_path)
    npm = shutil.which("npm")
    if npm is None:
        node()
        pytest.skip("npm is not on the PATH; install it with: apt install npm")
    for command in ([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["node_modules/.bin/tsc", "-p", "."]):
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
