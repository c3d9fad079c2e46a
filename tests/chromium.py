"""A real Chromium without a window, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.e2e.waiting import eventually
from tests.patience import patient

# No traffic of its own, no processes that outlive it; as root it cannot sandbox itself.
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class Page:
    """What has failed on it stands in ``errors``: exceptions, and what was written to the console as an error."""

    def __init__(self, connection: ClientConnection) -> None:
        self.errors: list[str] = []
        self._connection = connection
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def call(self, method: str, **parameters: Any) -> Any:
        number = len(self._answers) + 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        return await answer

    async def evaluate(self, script: str) -> Any:
        """Raises AssertionError with what the script threw."""
        told = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until it is true."""

        async def is_true() -> bool:
            return bool(await self.evaluate(script))

        is_true.__doc__ = script
        await eventually(is_true)

    async def listen(self) -> None:
        async for text in self._connection:
            message = json.loads(text)
            if "id" in message:
                answer = self._answers[message["id"]]
                if "result" in message:
                    answer.set_result(message["result"])
                else:
                    answer.set_exception(AssertionError(message["error"]))
            elif message["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            elif message["method"] == "Runtime.consoleAPICalled" and message["params"]["type"] == "error":
                self.errors.append(str(message["params"]["args"]))


@asynccontextmanager
async def page(url: str, directory: Path) -> AsyncGenerator[Page, None]:
    """Skips the test where there is no Chromium, but in CI."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        if os.environ.get("TAILRACE_CI_REQUIRE") == "1":
            pytest.fail("chromium is missing")
        pytest.skip("chromium is missing")
    profile = directory / "chromium"
    command = [binary, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    try:
        port = await _port(profile / "DevToolsActivePort")
        async with httpx.AsyncClient(timeout=patient(10)) as client:
            opened = (await client.put(f"http://127.0.0.1:{port}/json/new?about:blank")).json()
        async with connect(opened["webSocketDebuggerUrl"], max_size=None) as connection:
            found = Page(connection)
            listening = asyncio.create_task(found.listen())
            await found.call("Runtime.enable")
            await found.call("Page.enable")
            await found.call("Page.navigate", url=url)
            await found.until(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})")
            yield found
            listening.cancel()
    finally:
        process.kill()
        await process.wait()


async def _port(file: Path) -> int:
    async def is_there() -> bool:
        """Chromium says where it listens."""
        return file.exists() and "\n" in file.read_text()

    await eventually(is_there)
    return int(file.read_text().splitlines()[0])
