"""``tailrace dead-letters``: work that came to nothing is found, looked at, tried again and dropped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tailrace.bus import Bus, BusSettings, Cursor, open_bus
from tests.integration.cli.processes import call

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


class Cli:
    def __init__(self, server_url: str, prefix: str) -> None:
        self._env = {"TAILRACE_REDIS_URL": server_url, "TAILRACE_PREFIX": prefix}

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(call, "dead-letters", *arguments, env=self._env)
        return done.returncode, done.stdout, done.stderr

    async def letters(self, *arguments: str) -> list[dict[str, Any]]:
        code, out, err = await self(*arguments, "--json")
        assert (code, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def cli(server_url: str, prefix: str) -> Cli:
    return Cli(server_url, prefix)


async def bury(bus: Bus, execution_id: str, queue: str = "default") -> None:
    await bus.jobs.queues.open(queue)
    await bus.submit("document", {"path": f"{execution_id}.md"}, execution_id=execution_id, queue=queue)
    await bus.dead_letters.add(execution_id, "worker_lost", "its worker died\x1b three times")


async def test_all_of_them_are_listed_with_the_reason(bus: Bus, cli: Cli) -> None:
    await bury(bus, "a")
    await bury(bus, "b", "imports")
    letters = await cli.letters()
    code, table, _ = await cli("list")

    assert [(letter["queue"], letter["execution_id"]) for letter in letters] == [("default", "a"), ("imports", "b")]
    assert {letter["reason"] for letter in letters} == {"worker_lost"}
    assert [letter["execution_id"] for letter in await cli.letters("--queue", "imports")] == ["b"]
    assert code == 0
    row = next(line for line in table.splitlines() if line.startswith("imports"))
    assert row.split()[1:5] == [letters[1]["entry_id"], "b", "document", "worker_lost"]
    assert row.endswith("its worker died\\x1b three times")


async def test_none_is_told_and_no_failure(cli: Cli) -> None:
    code, _, err = await cli()
    assert (code, err) == (0, "tailrace: there are no dead letters\n")


async def test_one_is_shown_with_what_was_to_be_done(bus: Bus, cli: Cli) -> None:
    await bury(bus, "a")
    (letter,) = await cli.letters()
    (shown,) = await cli.letters("show", letter["entry_id"])
    text = (await cli("show", letter["entry_id"]))[1]

    assert shown == {**letter, "input": {"path": "a.md"}}
    assert 'input         {"path": "a.md"}' in text
    assert "\x1b" not in text


async def test_one_is_tried_again_under_a_new_id(bus: Bus, cli: Cli) -> None:
    await bury(bus, "a")
    (letter,) = await cli.letters()
    code, out, _ = await cli("requeue", letter["entry_id"])
    submission = await bus.jobs.submission_of(out.strip())

    assert code == 0
    assert submission is not None
    assert (submission.input, submission.requeued_from) == ({"path": "a.md"}, "a")
    assert await cli.letters() == []


async def test_all_of_a_queue_are_tried_again_and_one_that_cannot_be_holds_up_none(bus: Bus, cli: Cli) -> None:
    for name in ("a", "b", "c"):
        await bury(bus, name, "imports")
    await bury(bus, "other")
    await bus.commands.command("DEL", bus.keys.meta("b"))
    code, out, err = await cli("requeue", "--all", "--queue", "imports")

    assert (code, len(out.splitlines())) == (5, 2)
    assert err.count("\n") == 1
    assert "no execution b" in err
    assert [letter["execution_id"] for letter in await cli.letters()] == ["other", "b"]


async def test_what_is_dropped_is_gone_and_others_stay(bus: Bus, cli: Cli) -> None:
    await bury(bus, "a")
    await bury(bus, "b")
    newest, oldest = await cli.letters()
    code, out, _ = await cli("drop", oldest["entry_id"])

    assert (code, out) == (0, f"dropped {oldest['entry_id']}\n")
    assert await cli.letters() == [newest]
    assert (await cli("drop", "--all", "--queue", "default"))[0] == 0
    assert await cli.letters() == []


async def test_one_that_is_not_there_is_exit_code_5(cli: Cli) -> None:
    for action in ("show", "requeue", "drop"):
        code, out, err = await cli(action, "1-1")
        assert (code, out) == (5, "")
        assert "dead letter 1-1 was not found" in err
        assert err.count("\n") == 1
    assert (await cli("show", "x"))[0] == 64


async def test_attack_30_events_that_a_group_could_not_handle_are_found_requeued_and_dropped(
    bus: Bus, cli: Cli
) -> None:
    undelivered = bus.undelivered("mails")
    for number in range(3):
        await undelivered.add(
            f"run-{number}", Cursor(1760000000000, number + 1), "step.completed", "send", "it\x1b broke", 4
        )
    code, out, _ = await cli("--group", "mails")
    assert code == 0
    assert "run-2" in out
    assert "\x1b broke" not in out
    ids = [json.loads(line)["entry_id"] for line in (await cli("--group", "mails", "--json"))[1].splitlines()]
    code, out, _ = await cli("show", "--group", "mails", ids[0])
    assert (code, "1760000000000-3" in out) == (0, True)
    code, out, _ = await cli("requeue", "--group", "mails", ids[0])
    assert (code, out) == (0, f"requeued {ids[0]}\n")
    assert await bus.commands.command("XLEN", bus.keys.redeliveries("mails")) == 1
    code, out, err = await cli("drop", "--group", "mails", ids[0], ids[1])
    assert (code, out) == (5, f"dropped {ids[1]}\n")
    assert ids[0] in err
    code, out, _ = await cli("drop", "--group", "mails", "--all")
    assert (code, out) == (0, f"dropped {ids[2]}\n")
    code, _, err = await cli("--group", "mails", "--queue", "default")
    assert (code, "name one of them" in err) == (64, True)
    assert (await cli("show", "--group", "mails", ids[2]))[0] == 5
