"""Gateways die behind the documented proxies: an EventSource gives up for ever on a 502 or 503, so it must see none."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import httpx
import pytest

from tailrace.bus import Bus
from tests.e2e.docs_support_page import Page
from tests.e2e.proxied.haproxy import Haproxy
from tests.e2e.proxied.nginx import documented_nginx
from tests.e2e.proxied.pair import Pair
from tests.e2e.proxied.proxy import Proxy
from tests.e2e.waiting import eventually
from tests.patience import patient

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROOT: Final = Path(__file__).parents[3]
AWAY_SECONDS: Final = 2.0
READS: Final = 100
VIEWERS: Final = 4
PROXIES: Final[dict[str, Callable[[Sequence[str], Path], Proxy]]] = {"haproxy": Haproxy, "nginx": documented_nginx}

# The EventSource of npm does what the standard asks of a browser's. Node's own gives up when a connection breaks.
PRELUDE: Final = """
import { EventSource } from "eventsource";
globalThis.EventSource = class extends EventSource {
  constructor(url, init) { super(new URL(url, process.argv[2]), init); }
};
"""

# It reconnects by itself, until it is told anything but 200.
NATIVE: Final = """
const stream = new EventSource("/v1/executions/hello/events?events=message");
stream.onmessage = (message) => {
  const { type } = JSON.parse(message.data);
  console.log(type);
  if (type === "stream.end") stream.close();
};
stream.onerror = () => {
  if (stream.readyState === EventSource.CLOSED) process.exit(4);
};
"""


@pytest.fixture
def module_prefix(prefix: str) -> str:
    """The scripts name their execution, so each test needs its own."""
    return prefix


class Watcher:
    """A script in node that prints each event's type at the beginning of a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._output: list[str] = []
        self._reading = asyncio.create_task(self._read())

    @property
    def types(self) -> list[str]:
        """Of the log's entries, and of gaps."""
        types = [line.split()[0] for line in self._output if line.strip()]
        return [type_ for type_ in types if not type_.startswith("stream.") or type_ == "stream.gap"]

    @property
    def lives(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        await self._reading
        return await self._process.wait()

    async def aclose(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._output.append(line.decode())


async def watch(stack: AsyncExitStack, source: str, place: str, url: str, directory: Path) -> Watcher:
    (directory / "prelude.mjs").write_text(PRELUDE)
    script = directory / f"{place}.mjs"
    script.write_text(f'import "./prelude.mjs";\n{source}')
    process = await asyncio.create_subprocess_exec("node", str(script), url, stdout=asyncio.subprocess.PIPE)
    watcher = Watcher(process)
    stack.push_async_callback(watcher.aclose)
    return watcher


async def all_have(watchers: Sequence[Watcher], count: int) -> None:
    async def they_have() -> bool:
        """every watcher has the events so far"""
        assert all(watcher.lives for watcher in watchers), [watcher.types for watcher in watchers]
        return all(len(watcher.types) >= count for watcher in watchers)

    await eventually(they_have, seconds=60)


@pytest.mark.parametrize("kind", PROXIES)
async def test_attack_39_one_of_two_gateways_is_killed_and_no_client_sees_a_502_or_503(
    kind: str, bus: Bus, pair: Pair, node: Path, tmp_path: Path
) -> None:
    answers: Counter[int | str] = Counter()
    many, dead = asyncio.Event(), asyncio.Event()

    async def read_on(url: str) -> None:
        """Half of the reads while both live and one is killed under them, half with one dead."""
        async with httpx.AsyncClient(timeout=patient(60)) as client:
            for number in range(READS):
                if number == READS // 2:
                    await dead.wait()
                try:
                    answers[(await client.get(url)).status_code] += 1
                except httpx.TransportError as error:
                    answers[repr(error)] += 1
                if answers.total() >= READS // 2:
                    many.set()

    async with AsyncExitStack() as stack:
        proxy = stack.enter_context(PROXIES[kind](pair.urls, tmp_path))
        await asyncio.to_thread(proxy.await_ready)
        async with bus.execution("hello") as execution:
            await execution.emit("custom.before", {})
            viewers = [await watch(stack, NATIVE, f"native-{number}", proxy.url, node) for number in range(VIEWERS)]
            await all_have(viewers, 2)
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(read_on(f"{proxy.url}/v1/executions/hello"))
                await many.wait()
                await asyncio.to_thread(pair.end, 0, signal.SIGKILL)
                dead.set()
            await execution.emit("custom.after", {})
            await all_have(viewers, 3)
        codes = [await viewer.wait() for viewer in viewers]

    assert answers.keys() == {200}, answers
    assert answers.total() == 4 * READS
    assert codes == [0] * VIEWERS
    for viewer in viewers:
        assert viewer.types == ["execution.started", "custom.before", "custom.after", "execution.completed"]


@pytest.mark.parametrize("kind", PROXIES)
async def test_attack_39_the_documented_eventsource_survives_that_both_gateways_are_away_for_2_s(
    kind: str, bus: Bus, pair: Pair, node: Path, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        proxy = stack.enter_context(PROXIES[kind](pair.urls, tmp_path))
        await asyncio.to_thread(proxy.await_ready)

        async def refuses() -> bool:
            """the proxy answers what an EventSource gives up on"""
            async with httpx.AsyncClient(timeout=patient(60)) as client:
                return (await client.get(f"{proxy.url}/healthz")).status_code in {502, 503}

        async with bus.execution("hello") as execution:
            await execution.emit("custom.before", {})
            watchers = [
                await watch(stack, block.text, path.stem, proxy.url, node)
                for path in (ROOT / "README.md", ROOT / "docs/wire.md")
                for block in Page(path.name, path.read_text()).blocks
                if block.language == "js" and "EventSource" in block.text
            ]
            assert len(watchers) == 2
            await all_have(watchers, 2)
            for number in range(2):
                await asyncio.to_thread(pair.end, number, signal.SIGKILL)
            await eventually(refuses, seconds=60)
            await execution.emit("custom.meanwhile", {})
            await asyncio.sleep(AWAY_SECONDS)
            for number in range(2):
                await asyncio.to_thread(pair.bring_back, number)
            await execution.emit("custom.after", {})
            await all_have(watchers, 4)
        codes = [await watcher.wait() for watcher in watchers]

    assert codes == [0, 0]
    for watcher in watchers:
        assert watcher.types == [
            "execution.started",
            "custom.before",
            "custom.meanwhile",
            "custom.after",
            "execution.completed",
        ]
