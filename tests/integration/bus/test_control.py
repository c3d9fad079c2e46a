"""Pause, resume, signal, and what can be asked of what: who asks is told what became of it, and so is the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tailrace.bus import (
    Bus,
    BusSettings,
    ControlTimeoutError,
    EventTooLargeError,
    Execution,
    ExecutionClosedError,
    ExecutionUnknownError,
    InvalidInputError,
    TransitionRefusedError,
    open_bus,
)
from tailrace.bus.control import Outcome
from tests.integration.bus.follower import Follower
from tests.integration.bus.steered_runs import WAIT, Running, counting, forever, story, take_over, types
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio


async def test_a_pause_is_told_when_it_stands_still_and_nothing_is_said_until_it_is_resumed(
    bus: Bus, elsewhere: Bus
) -> None:
    async with Running(bus, counting), Follower(bus, "run") as follower:
        await follower.until(lambda f: len(f.entries) > 5)
        paused = await elsewhere.control.pause("run", by="ann", wait_seconds=WAIT)
        assert paused.status == "paused"
        assert paused.event is not None
        assert paused.event.data == {"request": paused.request, "by": "ann"}
        latest = await bus.log.latest("run")
        assert latest == paused.event.cursor
        await asyncio.sleep(0.1)
        assert await bus.log.latest("run") == latest
        state = await bus.state("run")
        assert state is not None
        assert state.status == "paused"
        resumed = await elsewhere.control.resume("run", wait_seconds=WAIT)
        assert resumed.status == "running"
        assert resumed.event is not None
        after = len(follower.entries)
        await follower.until(lambda f: len(f.entries) > after + 5)
    numbers = [entry.data for entry in follower.entries if entry.type == "a"]
    assert numbers == list(range(len(numbers)))


async def test_a_second_pause_is_answered_too_and_one_resume_ends_both(bus: Bus) -> None:
    async with Running(bus, counting):
        first, second = await asyncio.gather(
            bus.control.pause("run", wait_seconds=WAIT), bus.control.pause("run", wait_seconds=WAIT)
        )
        third = await bus.control.pause("run", wait_seconds=WAIT)
        assert {outcome.status for outcome in (first, second, third)} == {"paused"}
        assert (await bus.control.resume("run", wait_seconds=WAIT)).status == "running"
        assert (await bus.control.resume("run", wait_seconds=WAIT)).status == "running"
        await bus.control.cancel("run", wait_seconds=WAIT)
    entries = await story(bus)
    asked = [entry.id for entry in entries if entry.type.endswith(("pause_requested", "resume_requested"))]
    answered = [entry.data["request"] for entry in entries if entry.type in {"execution.paused", "execution.resumed"}]
    assert answered == asked


async def test_a_resume_that_comes_before_it_stands_still_answers_both(bus: Bus) -> None:
    async with Running(bus, forever) as running:
        pause = await bus.control.pause("run")
        with pytest.raises(ControlTimeoutError) as caught:
            await bus.control.wait(pause, 0.2)
        assert caught.value.request == pause.request
        resume = await bus.control.resume("run", wait_seconds=WAIT)
        assert resume.event is not None
        assert (await bus.control.wait(pause, WAIT)).event is not None
        assert not running.execution._ownership.steering.halted
        await bus.control.cancel("run", wait_seconds=WAIT)
    entries = await story(bus)
    assert types(entries) == [
        "started", "pause_requested", "resume_requested", "paused", "resumed", "cancel_requested", "cancelled",
    ]  # fmt: skip


async def test_a_paused_run_can_be_cancelled(bus: Bus) -> None:
    async with Running(bus, counting) as running:
        await bus.control.pause("run", wait_seconds=WAIT)
        outcome = await bus.control.cancel("run", wait_seconds=WAIT)
        assert outcome.status == "cancelled"
        with pytest.raises(asyncio.CancelledError):
            await running.task


async def test_a_pause_that_meets_the_ending_is_answered_by_it(bus: Bus) -> None:
    ending = asyncio.Event()

    async def ends(_: Execution) -> None:
        await ending.wait()

    async with Running(bus, ends) as running:
        pause = await bus.control.pause("run")
        ending.set()
        await running.task
    outcome = await bus.control.wait(pause, WAIT)
    assert outcome.event is not None
    assert (outcome.event.type, outcome.status) == ("execution.completed", "completed")
    with pytest.raises(ExecutionClosedError):
        await bus.control.pause("run")


async def test_what_was_asked_while_it_waited_for_a_worker_is_done_when_it_begins(bus: Bus) -> None:
    await bus.submit("nothing", execution_id="run")
    pause = await bus.control.pause("run")
    assert (pause.event, pause.status) == (None, "queued")
    async with Running(bus, counting):
        assert (await bus.control.wait(pause, WAIT)).status == "paused"


async def test_a_paused_run_that_is_taken_over_stays_paused_until_it_is_resumed(bus: Bus, elsewhere: Bus) -> None:
    said: list[str] = []

    async def second(execution: Execution) -> None:
        await execution.append("custom.second")
        said.append("begun")

    async with Running(bus, counting):
        await bus.control.pause("run", wait_seconds=WAIT)
        taken = await take_over(elsewhere)

        async def run() -> None:
            async with taken as execution:
                await second(execution)

        task = asyncio.create_task(run())
        async with Follower(bus, "run") as follower:
            await follower.until(lambda f: f.types.count("execution.started") == 2)
            await asyncio.sleep(0.1)
            assert said == []
            state = await bus.state("run")
            assert state is not None
            assert (state.status, state.attempt) == ("paused", 2)
            resumed = await bus.control.resume("run", wait_seconds=WAIT)
            assert resumed.status == "running"
            await task
            await follower.end()
    assert follower.types[-4:] == [
        "execution.resume_requested", "execution.resumed", "custom.second", "execution.completed",
    ]  # fmt: skip
    assert follower.types.count("execution.paused") == 1


async def test_signals_are_given_out_once_each_in_order_also_those_that_came_before(bus: Bus, elsewhere: Bus) -> None:
    go = asyncio.Event()

    async def listening(execution: Execution) -> list[Any]:
        await go.wait()
        heard = [await execution.signal("go") for _ in range(2)]
        other = await execution.signal("other")
        heard.append(await execution.signal("go"))
        return [[each.data, each.by] for each in (*heard, other)]

    async with Running(bus, listening) as running:
        for number in (1, 2):
            sent = await elsewhere.control.signal("run", "go", number, by="ann", wait_seconds=WAIT)
            assert sent.event is not None
            assert sent.event.data == {"request": sent.request, "by": "ann", "name": "go"}
            assert sent.status == "running"
        go.set()
        await elsewhere.control.signal("run", "other", {"any": "thing"})
        await elsewhere.control.signal("run", "go", 3)
        await running.task
    assert (await story(bus))[-1].data == {"result": [[1, "ann"], [2, "ann"], [3, None], [{"any": "thing"}, None]]}


async def test_a_signal_that_does_not_come_in_time_is_a_timeout_and_pauses_do_not_count(bus: Bus) -> None:
    late = asyncio.Event()

    async def impatient(execution: Execution) -> str:
        with pytest.raises(TimeoutError):
            await execution.signal("go", 0.05)
        late.set()
        signal = await execution.signal("go", 1.0)
        return str(signal.data)

    async with Running(bus, impatient) as running:
        await late.wait()
        await bus.control.pause("run", wait_seconds=WAIT)
        await asyncio.sleep(1.2)
        await bus.control.resume("run", wait_seconds=WAIT)
        await bus.control.signal("run", "go", "gone")
        await running.task
    assert (await story(bus))[-1].data == {"result": "gone"}


async def test_attack_09_a_new_attempt_is_given_the_signals_that_none_was_given(bus: Bus, elsewhere: Bus) -> None:
    async def first(execution: Execution) -> None:
        await execution.signal("go")
        await execution.signal("kept", again=True)
        await asyncio.Event().wait()

    async with Running(bus, first):
        one = await bus.control.signal("run", "go", 1, wait_seconds=WAIT)
        two = await bus.control.signal("run", "go", 2, wait_seconds=WAIT)
        kept = await bus.control.signal("run", "kept", wait_seconds=WAIT)
        taken = await take_over(elsewhere)
        three = await elsewhere.control.signal("run", "go", 3)
        async with taken as execution:
            heard = [await execution.signal("go") for _ in range(2)]
            heard.append(await execution.signal("kept"))
            with pytest.raises(TimeoutError):
                await execution.signal("go", 0.05)
    assert [signal.request for signal in heard] == [two.request, three.request, kept.request]
    entries = await story(bus)
    answered = [entry.data["request"] for entry in entries if entry.type == "execution.signalled"]
    assert sorted(answered) == sorted({one.request, two.request, three.request, kept.request})


async def test_attack_09_a_signal_whose_giving_cannot_be_kept_is_given_when_asked_again(
    fresh_server: RunningServer, prefix: str
) -> None:
    settings = BusSettings(prefix=prefix)
    async with await open_bus(fresh_server.url, settings=settings) as bus, bus.execution("run") as execution:
        await bus.control.signal("run", "go", 1, wait_seconds=patient(WAIT))
        await bus.commands.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await execution.signal("go")
        await bus.commands.command("CONFIG", "SET", "maxmemory", "0")
        assert (await execution.signal("go", patient(WAIT))).data == 1


async def test_who_waits_for_a_signal_stands_still_when_it_is_paused(bus: Bus) -> None:
    async def listening(execution: Execution) -> str:
        return str((await execution.signal("go")).data)

    async with Running(bus, listening) as running:
        assert (await bus.control.pause("run", wait_seconds=WAIT)).status == "paused"
        assert (await bus.control.signal("run", "go", "now", wait_seconds=WAIT)).status == "paused"
        await asyncio.sleep(0.05)
        assert not running.task.done()
        await bus.control.resume("run", wait_seconds=WAIT)
        await running.task
    assert (await story(bus))[-1].data == {"result": "now"}


ASKED: list[Callable[[Bus], Awaitable[Outcome]]] = [
    lambda bus: bus.control.cancel("run"),
    lambda bus: bus.control.pause("run"),
    lambda bus: bus.control.resume("run"),
    lambda bus: bus.control.signal("run", "go"),
]


@pytest.mark.parametrize("ask", ASKED, ids=["cancel", "pause", "resume", "signal"])
async def test_what_is_not_known_cannot_be_asked_anything_and_leaves_no_trace(
    bus: Bus, ask: Callable[[Bus], Awaitable[Outcome]]
) -> None:
    with pytest.raises(ExecutionUnknownError):
        await ask(bus)
    assert not await bus.log.exists("run")
    assert not await bus.commands.command("EXISTS", bus.keys.control("run"))


@pytest.mark.parametrize("ask", ASKED, ids=["cancel", "pause", "resume", "signal"])
async def test_what_nobody_runs_cannot_be_asked_anything(bus: Bus, ask: Callable[[Bus], Awaitable[Outcome]]) -> None:
    publisher = bus.publisher("run")
    await publisher.append("a")
    await publisher.aclose()
    with pytest.raises(TransitionRefusedError):
        await ask(bus)


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (lambda bus: bus.control.cancel("../x"), "execution_id"),
        (lambda bus: bus.control.cancel("run", reason="line\nbreak"), "reason"),
        (lambda bus: bus.control.cancel("run", reason=""), "reason"),
        (lambda bus: bus.control.cancel("run", by="x" * 129), "by"),
        (lambda bus: bus.control.cancel("run", grace_seconds=-1), "grace_seconds"),
        (lambda bus: bus.control.cancel("run", grace_seconds=float("nan")), "grace_seconds"),
        (lambda bus: bus.control.cancel("run", wait_seconds=float("inf")), "wait_seconds"),
        (lambda bus: bus.control.signal("run", ""), "name"),
        (lambda bus: bus.control.signal("run", "a\x00"), "name"),
        (lambda bus: bus.control.signal("run", "\ud800"), "name"),
        (lambda bus: bus.control.signal("run", "go", object()), "data"),
        (lambda bus: bus.control.pause("run", wait_seconds=-1), "wait_seconds"),
    ],
)
async def test_what_cannot_be_asked_names_the_field(
    bus: Bus, ask: Callable[[Bus], Awaitable[Outcome]], field: str
) -> None:
    async with Running(bus, forever):
        with pytest.raises(InvalidInputError) as caught:
            await ask(bus)
        assert caught.value.field == field


async def test_a_signal_that_is_too_large_is_refused(bus: Bus) -> None:
    async with Running(bus, forever):
        with pytest.raises(EventTooLargeError):
            await bus.control.signal("run", "go", "x" * 70_000)


async def test_a_timeout_ends_it_and_time_spent_paused_does_not_count(bus: Bus) -> None:
    async with Running(bus, counting, timeout_seconds=0.5) as running:
        await bus.control.pause("run", wait_seconds=WAIT)
        await asyncio.sleep(0.6)
        state = await bus.state("run")
        assert state is not None
        assert state.status == "paused"
        await bus.control.resume("run", wait_seconds=WAIT)
        with pytest.raises(TimeoutError, match=r"longer than 0\.5 s"):
            await running.task
    last = (await story(bus))[-1]
    assert (last.type, last.data["reason"], last.data["timeout_seconds"]) == ("execution.timed_out", "timeout", 0.5)


async def test_what_is_handed_back_has_no_ending_and_is_the_next_ones(bus: Bus) -> None:
    async with bus.execution("run") as execution:
        await execution.emit("a")
        await execution.hand_back("worker_stopped", message="The worker goes.")
    async with bus.execution("run") as execution:
        assert execution.attempt == 2
    entries = await story(bus)
    assert types(entries) == ["started", "a", "retrying", "started", "completed"]
    assert entries[2].data == {"attempt": 2, "reason": "worker_stopped", "message": "The worker goes."}


async def test_what_answers_fits_into_the_smallest_events(each_server_url: str, prefix: str) -> None:
    async with await open_bus(each_server_url, settings=BusSettings(prefix=prefix, max_event_bytes=256)) as bus:
        async with Running(bus, forever):
            signalled = await bus.control.signal("run", "n" * 110, by="b" * 110, wait_seconds=WAIT)
            assert signalled.event is not None
            assert signalled.event.data == {"request": signalled.request}
            cancelled = await bus.control.cancel("run", reason="r" * 127, by="b" * 85, wait_seconds=WAIT)
        assert cancelled.event is not None
        assert cancelled.event.data == {"reason": "cancelled", "request": cancelled.request, "by": None}


@pytest.mark.parametrize("timeout_seconds", [0, -1, float("nan"), float("inf")])
async def test_a_timeout_is_a_number_of_seconds(bus: Bus, timeout_seconds: float) -> None:
    with pytest.raises(InvalidInputError, match="timeout_seconds"):
        bus.execution("run", timeout_seconds=timeout_seconds)


async def test_attack_22_an_answer_that_cannot_be_written_is_written_when_redis_takes_writes_again(
    fresh_server: RunningServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.bus.ownership.ownership.ENDING_SECONDS", 0.2)
    standing = asyncio.Event()

    async def body(execution: Execution) -> None:
        await standing.wait()
        await execution.pause_point()
        await execution.signal("go")

    async with await open_bus(fresh_server.url, settings=BusSettings(prefix=prefix)) as bus:
        async with Running(bus, body) as running:
            asked = await bus.control.pause("run")
            await bus.commands.command("CONFIG", "SET", "maxmemory", "1")
            standing.set()
            async with asyncio.timeout(patient(WAIT)):
                while bus.counters["append_retries"] < 5:  # noqa: ASYNC110 - no event tells of a retry
                    await asyncio.sleep(0.01)
            await bus.commands.command("CONFIG", "SET", "maxmemory", "0")
            assert (await bus.control.resume("run", wait_seconds=patient(WAIT))).status == "running"
            await bus.control.signal("run", "go")
            async with asyncio.timeout(patient(WAIT)):
                await running.task
        entries = await story(bus)
    assert types(entries)[-1] == "completed"
    assert [entry.data["request"] for entry in entries if entry.type == "execution.paused"] == [asked.request]


async def test_attack_27_what_was_answered_is_not_answered_again_after_an_attempt_that_was_not_spent(bus: Bus) -> None:
    async with Running(bus, forever) as running:
        await bus.control.pause("run")
        await bus.control.resume("run", wait_seconds=WAIT)
        await bus.control.signal("run", "go", wait_seconds=WAIT)
        execution = running.execution
        await bus.commands.command("HINCRBY", bus.keys.meta("run"), "attempt", -1)
        await execution.hand_back("worker_stopped", attempt=1)
    async with bus.execution("run") as again:
        assert again.attempt == 1
        assert (await again.signal("go", timeout_seconds=WAIT)).name == "go"
        await bus.control.signal("run", "last", wait_seconds=WAIT)
    answers = [entry.data["request"] for entry in await story(bus) if "request" in (entry.data or {})]
    asked = 4
    assert len(answers) == len(set(answers)) == asked
