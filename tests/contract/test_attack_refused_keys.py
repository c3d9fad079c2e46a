"""A key that cannot be read costs neither Redis nor the readers of other keys anything, on any tail and server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, cast

import pytest

from tailrace.bus.model.cursor import START
from tailrace.bus.tail.watch import Watch
from tests.conftest import ServerOfKind
from tests.contract.places import ON_SERVERS, Mode, Place, open_place
from tests.contract.recorder import Recorder
from tests.servers import ServerKind

pytestmark = pytest.mark.anyio

Cause = Literal["wrong type", "forbidden"]
CAUSES: list[Cause] = ["wrong type", "forbidden"]
SECONDS = 1.0
# With the shortest waits that there can be: 0.02, 0.04, 0.08, 0.16, 0.32, 0.5.
MOST_READS = 12


@dataclass
class Broken:
    """A place where ``broken`` cannot be read until it is mended."""

    place: Place
    admin: Place
    cause: Cause
    user: str

    async def mend(self) -> None:
        if self.cause == "wrong type":
            await self.admin.commands.command("DEL", self.place.keys.log("broken"))
        else:
            await self.admin.commands.command("ACL", "SETUSER", self.user, "allkeys")
        await self.admin.append("broken")


@asynccontextmanager
async def a_place(mode: Mode, url: str, prefix: str, cause: Cause) -> AsyncIterator[Broken]:
    user = f"user-{prefix}"
    async with open_place(mode, url, prefix) as admin:
        command = admin.commands.command
        if cause == "wrong type":
            await command("SET", admin.keys.log("broken"), "a string")
            yield Broken(admin, admin, cause, user)
            return
        await command("ACL", "SETUSER", user, "on", ">secret", "&*", "+@all", f"~{admin.keys.log('good')[:-5]}*")
        try:
            async with open_place(mode, url.replace("://", f"://{user}:secret@"), prefix) as place:
                yield Broken(place, admin, cause, user)
        finally:
            await command("ACL", "DELUSER", user)


@pytest.fixture(params=ON_SERVERS, ids="-".join)
async def broken(
    request: pytest.FixtureRequest, server_of_kind: ServerOfKind, prefix: str, cause: Cause
) -> AsyncIterator[Broken]:
    mode, kind = cast("tuple[Mode, ServerKind]", request.param)
    async with a_place(mode, server_of_kind(kind).url, prefix, cause) as made:
        yield made


class Stubborn(Recorder):
    """Resumes at once whatever it is told."""

    def __init__(self, place: Place, run: str) -> None:
        super().__init__()
        self.watch: Watch = place.watch(run, self)
        self.resume = lambda: self.watch.resume(self.last if self.cursors else START)


@pytest.mark.parametrize("cause", CAUSES)
async def test_attack_57_a_key_that_cannot_be_read_is_left_alone_and_disturbs_nobody_else(
    broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    place = broken.place
    good = [Stubborn(place, f"good{number}") for number in range(3)]
    bad = Stubborn(place, "broken")
    with caplog.at_level(logging.WARNING):
        await bad.until(lambda r: r.disturbances != [])
        ends = asyncio.get_running_loop().time() + SECONDS
        while asyncio.get_running_loop().time() < ends:
            await broken.admin.append("good0")
            await asyncio.sleep(0.01)
    for number in (1, 2):
        await place.append(f"good{number}")
        await good[number].until(lambda r: r.numbers == [1])
    ids = await place.ids("good0")
    await good[0].until(lambda r: r.cursors == ids)
    assert [recorder.disturbances for recorder in good] == [[], [], []]
    assert len(bad.disturbances) <= MOST_READS
    assert {told.split(" ")[0] for told in bad.disturbances} == {
        "WRONGTYPE" if broken.cause == "wrong type" else "NOPERM"
    }
    assert place.counters["tail_refused_keys"] == 1
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1


@pytest.mark.parametrize("cause", CAUSES)
async def test_attack_57_a_key_that_can_be_read_again_is_read_on(broken: Broken) -> None:
    good, bad = Stubborn(broken.place, "good"), Stubborn(broken.place, "broken")
    await bad.until(lambda r: len(r.disturbances) >= 2)
    await broken.mend()
    await bad.until(lambda r: r.numbers == [1])
    told = len(bad.disturbances)
    await broken.admin.append("broken")
    await bad.until(lambda r: r.numbers == [1, 2])
    assert len(bad.disturbances) == told
    assert good.disturbances == []


@pytest.mark.parametrize("cause", CAUSES)
async def test_attack_57_a_key_that_nobody_watches_any_more_is_forgotten(broken: Broken) -> None:
    first, second = Stubborn(broken.place, "broken"), Stubborn(broken.place, "broken")
    for recorder in (first, second):
        await recorder.until(lambda r: r.disturbances != [])
        recorder.watch.close()
    told = len(first.disturbances)
    await broken.mend()
    again = Stubborn(broken.place, "broken")
    await again.until(lambda r: r.numbers == [1])
    assert again.disturbances == []
    assert len(first.disturbances) == told
