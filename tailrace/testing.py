"""For the tests of applications: a bus on a real server of the test run's own, a recorder, and ``assert_events``.

It is a pytest plugin, found by itself where Tailrace is installed:

    async def test_an_answer_is_streamed(tailrace_bus):
        handle = await tailrace_bus.submit("answer", {"question": "why?"})
        ...
        await assert_events(tailrace_bus, handle, "execution.queued", "execution.started", ..., "execution.completed")

Every process of the test run has an embedded Valkey of its own, started when first asked for. Every test has keys of
its own, so tests can run in any order and side by side. Leases are a second long: what a death leads to comes soon.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from itertools import zip_longest
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

import pytest

# Whatever else is needed is imported when a fixture is used: every test run in an environment loads this.
if TYPE_CHECKING:
    from tailrace.bus import Bus, BusSettings, Entry, Gap

__all__ = ["Recorder", "assert_events", "open_test_bus", "recording"]

# Names the server to use in place of an embedded one.
URL_VARIABLE: Final = "TAILRACE_TEST_REDIS_URL"
LEASE_SECONDS: Final = 1.0
# How long is waited for what must come: only a test that fails waits so long.
TIMEOUT_SECONDS: Final = 30.0

Expected = str | tuple[str, Any] | EllipsisType
T = TypeVar("T")


@pytest.fixture(scope="session")
def tailrace_url() -> Iterator[str]:
    """The URL of a throw-away Valkey of this process of the test run, or of ``TAILRACE_TEST_REDIS_URL``."""
    from tailrace.bus.embedded.server import start_embedded  # noqa: PLC0415 - see above

    if url := os.environ.get(URL_VARIABLE):
        yield url
        return
    server = _apart(start_embedded(None))
    try:
        yield server.url
    finally:
        _apart(server.close())


@pytest.fixture
def tailrace_settings(tailrace_url: str) -> BusSettings:
    """Settings of a bus for this test alone: keys of its own, and short leases."""
    from pydantic import SecretStr  # noqa: PLC0415

    from tailrace.bus import BusSettings  # noqa: PLC0415

    return BusSettings(
        redis_url=SecretStr(tailrace_url), prefix=f"test-{uuid4().hex[:12]}", lease_seconds=LEASE_SECONDS
    )


@pytest.fixture
async def tailrace_bus(tailrace_settings: BusSettings) -> AsyncGenerator[Bus, None]:
    """A bus for this test alone, for tests that anyio's plugin runs, or pytest-asyncio's in its mode ``auto``.

    Others open it in the test: ``async with open_test_bus(tailrace_settings) as bus``.
    """
    async with open_test_bus(tailrace_settings) as bus:
        yield bus


@asynccontextmanager
async def open_test_bus(settings: BusSettings) -> AsyncGenerator[Bus, None]:
    """Open the bus of these settings, and remove its keys on leaving. Raises as ``open_bus`` does."""
    from tailrace.bus import open_bus  # noqa: PLC0415

    try:
        async with await open_bus(settings=settings) as bus:
            yield bus
    finally:
        # Closing, a bus writes what it has noted.
        await _remove_keys(settings)


class Recorder:
    """What has come of an execution so far, in order: ``entries``, and ``gaps`` between them."""

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.entries: list[Entry] = []
        self.gaps: list[Gap] = []
        self._news = asyncio.Condition()
        self._error: BaseException | None = None

    @property
    def types(self) -> list[str]:
        """The entries' types."""
        return [entry.type for entry in self.entries]

    @property
    def text(self) -> str:
        """The text of all tokens, without those that a ``token.reset`` of their step took back."""
        told: list[Entry] = []
        for entry in self.entries:
            if entry.type == "token.reset":
                told = [each for each in told if each.step != entry.step]
            elif entry.type == "token":
                told.append(entry)
        return "".join(entry.data["text"] for entry in told)

    def of(self, event_type: str) -> list[Any]:
        """The data of all entries of a type."""
        return [entry.data for entry in self.entries if entry.type == event_type]

    async def until(self, wanted: str | Callable[[Entry], bool], *, timeout_seconds: float = TIMEOUT_SECONDS) -> Entry:
        """Wait for the first entry of a type, or that a function takes; one that has come already counts.

        Raises AssertionError that says what has come instead.
        """
        takes = (lambda entry: entry.type == wanted) if isinstance(wanted, str) else wanted
        found: list[Entry] = []

        def is_there() -> bool:
            found[:] = [entry for entry in self.entries if takes(entry)][:1]
            return bool(found) or self._error is not None

        try:
            async with asyncio.timeout(timeout_seconds), self._news:
                await self._news.wait_for(is_there)
        except TimeoutError:
            pass
        if found:
            return found[0]
        what = wanted if isinstance(wanted, str) else "what was waited for"
        raise AssertionError(
            f"{self.execution_id}: {what} has not come within {timeout_seconds:g} s; there are: {self.types}"
        ) from self._error

    async def _take(self, items: AsyncGenerator[Entry | Gap, None]) -> None:
        from tailrace.bus import Gap  # noqa: PLC0415

        try:
            async with aclosing(items):
                async for item in items:
                    async with self._news:
                        if isinstance(item, Gap):
                            self.gaps.append(item)
                        else:
                            self.entries.append(item)
                        self._news.notify_all()
        except Exception as error:
            async with self._news:
                self._error = error
                self._news.notify_all()
            raise


@asynccontextmanager
async def recording(bus: Bus, execution_id: str) -> AsyncGenerator[Recorder, None]:
    """Follow an execution from its beginning, also one that has not begun, until left. Raises as ``bus.follow``."""
    recorder = Recorder(execution_id)
    taking = asyncio.create_task(recorder._take(bus.follow(execution_id)))  # noqa: SLF001 - its other half
    try:
        yield recorder
    finally:
        taking.cancel()
        await asyncio.wait([taking])
        if not taking.cancelled() and (error := taking.exception()) is not None:
            raise error


async def assert_events(
    bus: Bus, execution_id: str, *expected: Expected, timeout_seconds: float = TIMEOUT_SECONDS
) -> list[Entry]:
    """Wait for an execution's ending, and compare its log with what is expected; gives the entries.

    Each of ``expected`` is a type, or a type and what its data must have: ``("step.completed", {"result": 3})`` takes
    data with more members; what is no object must be equal. ``...`` stands for any number of events. Raises
    AssertionError with both side by side.
    """
    async with recording(bus, execution_id) as recorder:
        await recorder.until(lambda entry: entry.is_terminal, timeout_seconds=timeout_seconds)
    if not _fits(recorder.entries, expected):
        raise AssertionError(f"{execution_id} has other events than expected:\n{_side_by_side(recorder, expected)}")
    return recorder.entries


def _fits(entries: Sequence[Entry], expected: Sequence[Expected]) -> bool:
    """Whether they match, as a pattern with wildcards does: greedily between the wildcards."""
    pieces: list[list[str | tuple[str, Any]]] = [[]]
    for each in expected:
        if isinstance(each, EllipsisType):
            pieces.append([])
        else:
            pieces[-1].append(each)
    first, *others = pieces
    if not others:
        return len(entries) == len(first) and _all_match(entries, first)
    if len(entries) < len(first) or not _all_match(entries, first):
        return False
    at = len(first)
    *between, last = others
    for piece in between:
        while not (fits := len(entries) - at >= len(piece) and _all_match(entries[at:], piece)) and at < len(entries):
            at += 1
        if not fits:
            return False
        at += len(piece)
    start = len(entries) - len(last)
    return start >= at and _all_match(entries[start:], last)


def _all_match(entries: Sequence[Entry], expected: Sequence[str | tuple[str, Any]]) -> bool:
    return all(_matches(entry, each) for entry, each in zip(entries, expected, strict=False))


def _matches(entry: Entry, expected: str | tuple[str, Any]) -> bool:
    if isinstance(expected, str):
        return entry.type == expected
    event_type, data = expected
    return entry.type == event_type and _has(entry.data, data)


def _has(data: Any, expected: Any) -> bool:
    if isinstance(expected, Mapping) and isinstance(data, Mapping):
        return all(name in data and _has(data[name], value) for name, value in expected.items())
    return bool(data == expected)


def _side_by_side(recorder: Recorder, expected: Sequence[Expected]) -> str:
    there = [f"{entry.type} {entry.raw_data.decode()[:80]}" for entry in recorder.entries]
    wanted = ["..." if isinstance(each, EllipsisType) else str(each) for each in expected]
    width = max(map(len, (*wanted, "expected")))
    lines = [f"  {'expected':<{width}}  there"]
    lines += [f"  {left:<{width}}  {right}" for left, right in zip_longest(wanted, there, fillvalue="")]
    return "\n".join(lines)


async def _remove_keys(settings: BusSettings) -> None:
    """Of this prefix alone: a server of somebody else's is left as it was. Those of Sentinels and clusters expire."""
    from redis.asyncio import Redis  # noqa: PLC0415

    url = settings.redis_url.get_secret_value()
    if url.partition("://")[0] not in {"redis", "rediss", "unix"}:
        return
    async with Redis.from_url(url) as server:
        async for key in server.scan_iter(f"{settings.prefix}:*", count=1000):
            await server.unlink(key)


def _apart(work: Awaitable[T]) -> T:
    """Run it in a loop of its own: the test run's loop, if there is one, is another plugin's."""

    async def run() -> T:
        return await work

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, run()).result()
