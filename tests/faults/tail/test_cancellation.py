"""Requests are cancelled at any moment; those who share their connection never notice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tailrace.bus import START, Bus, Entry, open_bus
from tailrace.bus.model.continuity import Numbering
from tests.faults.tail.following import following
from tests.faults.tail.proxy import proxy
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

# So that most are cancelled while their reply is under way.
ROUND_TRIP_SECONDS = 0.004
RUNS = 20
TIMES = 1500


async def test_case_21_commands_cancelled_at_random_never_give_their_replies_to_others(
    fresh_server: RunningServer, run: str
) -> None:
    """Source: redis-py 2624, 2665, 4123: a cancelled command left its reply to whoever used the connection next."""
    chance = random.Random(21)
    async with proxy(fresh_server, delay_seconds=ROUND_TRIP_SECONDS) as far, await open_bus(far.url) as bus:
        runs = [f"{run}-{number}" for number in range(RUNS)]
        for number, name in enumerate(runs):
            publisher = bus.publisher(name)
            await publisher.append("custom.who", {"run": name, "number": number})
            await publisher.aclose()
        asking = asks(bus, runs)
        async with following(bus.log, await bus.tail(), runs[0]) as got:
            tasks = []
            for _ in range(TIMES):
                task = asyncio.ensure_future(chance.choice(asking)(chance.randrange(RUNS)))
                if chance.random() < 0.5:
                    delay_seconds = chance.uniform(0, 2 * ROUND_TRIP_SECONDS)
                    asyncio.get_running_loop().call_later(delay_seconds, task.cancel)
                tasks.append(task)
                if chance.random() < 0.2:
                    await asyncio.sleep(ROUND_TRIP_SECONDS / 4)
            await asyncio.wait(tasks)
            publisher = bus.publisher(runs[0], producer="last")
            await publisher.append("execution.completed", {})
            await publisher.aclose()
    cancelled = [task for task in tasks if task.cancelled()]
    answered = [task for task in tasks if not task.cancelled()]
    print(f"{len(cancelled)} cancelled, {len(answered)} answered")
    assert len(cancelled) > TIMES / 5
    assert len(answered) > TIMES / 2
    assert all(task.result() for task in answered)
    assert got.numbers == [1, 2]
    # It was the same connection all along.
    assert (bus.counters["redis_disconnects"], bus.counters["tail_disconnects"]) == (0, 0)


def asks(bus: Bus, runs: list[str]) -> list[Callable[[int], Awaitable[bool]]]:
    """Ways to ask for what only one run has; each says whether the answer was that run's."""

    async def echo(number: int) -> bool:
        said = f"{runs[number]} {random.random()}"
        return bool(await bus.commands.command("ECHO", said) == said.encode())

    async def page(number: int) -> bool:
        read = await bus.log.read(runs[number], Numbering.after(START))
        first = read.items[0]
        return isinstance(first, Entry) and first.data == {"run": runs[number], "number": number}

    async def state(number: int) -> bool:
        found = await bus.state(runs[number])
        return found is not None and found.execution_id == runs[number] and found.entries == 1

    return [echo, page, state]


async def test_case_21_an_append_whose_caller_was_cancelled_is_in_the_log_once(
    fresh_server: RunningServer, run: str
) -> None:
    """Source: redis-py 4123. What was emitted is the publisher's: who waits for it may go, the event may not."""
    chance = random.Random(22)
    async with proxy(fresh_server, delay_seconds=ROUND_TRIP_SECONDS) as far, await open_bus(far.url) as bus:
        publisher = bus.publisher(run)
        cancelled = 0
        for number in range(200):
            waiting = asyncio.ensure_future(publisher.append("custom.counted", {"k": number}))
            await asyncio.sleep(0)
            await asyncio.wait([waiting], timeout=chance.choice([0, ROUND_TRIP_SECONDS / 2, 1]))
            cancelled += waiting.cancel()
            await asyncio.wait([waiting])
        await publisher.aclose()
        read = await bus.log.read(run, Numbering.after(START))
    assert cancelled > 50
    assert [item.data["k"] for item in read.items if isinstance(item, Entry)] == list(range(200))
