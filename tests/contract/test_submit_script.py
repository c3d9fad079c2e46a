"""submit.lua by itself: one id, one submission."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus.errors import ReplyError
from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.script import Script
from tailrace.bus.redis.supervised import SupervisedConnection

pytestmark = pytest.mark.anyio

SUBMIT = Script.load("submit")


class Submitter:
    def __init__(self, line: SupervisedConnection, keys: Keys) -> None:
        self.line = line
        self.keys = (keys.log("run"), keys.meta("run"))

    async def __call__(self, fingerprint: str, *fields: str) -> int:
        return int(await SUBMIT.run(self.line, self.keys, fingerprint, 1000, *fields))


@pytest.fixture
def submit(line: SupervisedConnection, keys: Keys) -> Submitter:
    return Submitter(line, keys)


async def test_a_submission_is_noted_with_its_fields_and_a_time_to_live(submit: Submitter) -> None:
    assert await submit("f1", "pipeline", "document", "input", "{}") == 1
    assert await submit.line.command("HMGET", submit.keys[1], "submitted", "pipeline", "input") == [
        b"f1", b"document", b"{}",
    ]  # fmt: skip
    assert 0 < int(await submit.line.command("TTL", submit.keys[1])) <= 1000
    assert int(await submit.line.command("EXISTS", submit.keys[0])) == 0


async def test_the_same_again_is_the_same_and_changes_nothing(submit: Submitter) -> None:
    await submit("f1", "pipeline", "document")
    assert await submit("f1", "pipeline", "another") == 0
    assert await submit.line.command("HGET", submit.keys[1], "pipeline") == b"document"


async def test_something_else_under_the_same_id_is_refused(submit: Submitter) -> None:
    await submit("f1", "pipeline", "document")
    with pytest.raises(ReplyError, match=r"^EXISTS"):
        await submit("f2", "pipeline", "another")
    assert await submit.line.command("HGET", submit.keys[1], "pipeline") == b"document"


@pytest.mark.parametrize("which", [0, 1])
async def test_an_execution_that_was_never_submitted_is_not_taken_over(submit: Submitter, which: int) -> None:
    if which == 0:
        await submit.line.command("XADD", submit.keys[0], "*", "t", "a")
    else:
        await submit.line.command("HSET", submit.keys[1], "owner", "somebody")
    with pytest.raises(ReplyError, match=r"^EXISTS"):
        await submit("f1", "pipeline", "document")


async def test_of_many_different_submissions_at_once_exactly_one_is_taken(submit: Submitter) -> None:
    results = await asyncio.gather(*(submit(f"f{i}", "pipeline", f"p{i}") for i in range(50)), return_exceptions=True)
    assert results.count(1) == 1
    assert sum(isinstance(result, ReplyError) and result.code == "EXISTS" for result in results) == 49


async def test_of_many_equal_submissions_at_once_exactly_one_is_new(submit: Submitter) -> None:
    results = await asyncio.gather(*(submit("f1", "pipeline", "p") for _ in range(50)))
    assert sorted(results) == [0] * 49 + [1]
