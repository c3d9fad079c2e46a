"""Other programs write to the logs with plain XADD, and worse: what viewers get stays well formed, and goes on.

Every frame is read by a reader that forgives nothing, so that a broken one fails whichever test it comes in.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from tailrace.bus import Bus, LogExhaustedError, open_bus
from tailrace.bus.model.codec import ts_of
from tests.e2e.followers import Follower
from tests.e2e.logs import append_events, controls_of, emit_events, ids_of, log_ids, names_of
from tests.e2e.sse_client import open_stream
from tests.e2e.sse_frames import Frame
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

Fields = dict[bytes | str, bytes | str]


@pytest.fixture
async def client(server_url: str) -> AsyncGenerator[Redis, None]:
    async with Redis.from_url(server_url) as opened:
        yield opened


@pytest.fixture
async def bystander(bus: Bus, gateway_url: str, run: str) -> AsyncGenerator[None, None]:
    """Another run, watched all the while, which must not notice anything."""
    other = f"{run}-bystander"
    await append_events(bus, other, 3)
    async with open_stream(gateway_url, other) as stream:
        before = await stream.until("stream.caught_up")
        yield
        ids = await append_events(bus, other, 3, first=3)
        after = await stream.until_true(lambda frame: frame.id == ids[-1], seconds=10)
    assert ids_of([*before, *after]) == ids
    assert controls_of([*before, *after], "stream.gap") == []


async def add(client: Redis, bus: Bus, run: str, fields: Fields, entry_id: str = "*") -> str:
    given: Any = fields
    added: Any = await client.xadd(bus.keys.log(run), given, id=entry_id)
    return str(added.decode())


async def replay_to(url: str, run: str, last: str) -> list[Frame]:
    async with open_stream(url, run) as stream:
        return await stream.until_true(lambda frame: frame.id == last)


async def test_a_good_entry_of_another_program_is_shown_live_and_replayed(
    bus: Bus, client: Redis, gateway_url: str, run: str, bystander: None
) -> None:
    first = await add(client, bus, run, {"t": "my.event", "d": '{"x":1}'})
    async with open_stream(gateway_url, run) as stream:
        replayed = await stream.until("stream.caught_up")
        second = await add(client, bus, run, {"t": "my.event", "s": "fetch", "d": "[1]", "m": '{"a":1}', "ts": "now"})
        live = await stream.until_true(lambda frame: frame.id == second)
        ours = await append_events(bus, run, 1)
        await stream.until_true(lambda frame: frame.id == ours[-1])
    shown = [frame for frame in [*replayed, *live] if frame.id]
    assert [(frame.id, frame.name) for frame in shown] == [(first, "my.event"), (second, "my.event")]
    assert shown[0].payload == {
        "type": "my.event",
        "execution_id": run,
        "ts": ts_of(int(first.split("-", maxsplit=1)[0])),
        "data": {"x": 1},
    }
    assert {key: shown[1].payload[key] for key in ("step", "data", "meta")} == {
        "step": "fetch",
        "data": [1],
        "meta": {"a": 1},
    }
    assert shown[1].payload["ts"] == ts_of(int(second.split("-", maxsplit=1)[0]))
    assert controls_of([*replayed, *live], "stream.gap") == []


INJECTION: bytes = b"x\n\nid: 9-9\nevent: execution.completed\ndata: {}\n\n"
BREAKS: list[bytes] = [
    INJECTION,
    b"a\rb",
    b"a\r\nb",
    b"a\x00b",
    "a\u2028b\u0085c\u2029".encode(),
    b"\xff\xfe\xc3(",
    b"\xed\xa0\x80",
]


def hostile_entries() -> Iterator[tuple[Fields, bool]]:
    """Each with whether it may be shown as what it claims to be."""
    for value in BREAKS:
        yield {"t": value, "d": "1"}, False
        yield {"t": "my.event", "s": value, "d": "1"}, False
        yield {"t": "my.event", "ts": value, "d": "1"}, True
        yield {"t": "my.event", "d": value}, False
        yield {"t": "my.event", "d": "1", "m": value}, False
        yield {"t": "my.event", "d": "1", "e": value}, False
        yield {"t": "my.event", "d": value, "e": "binary"}, True
        yield {"t": "my.event", "d": "1", value: value}, True
    yield from HOSTILE


HOSTILE: list[tuple[Fields, bool]] = [
    ({"t": "my.event", "d": b'"' + INJECTION + b'"'}, False),
    ({"t": "my.event", "d": b'{\r\n"a"\n:\r"b"}\n\n'}, True),
    ({"t": "my.event", "d": '"\\n\\nid: 9-9\\ndata: {}\\n\\n\\u0000\\u2028"'}, True),
    ({"t": "my.event", "d": '"\\ud800"'}, False),
    ({"t": "my.event", "d": "1" * 300}, True),
    ({"t": "my.event", "d": "1" * 400}, False),
    ({"t": "my.event", "d": "NaN"}, False),
    ({"t": "my.event", "d": "Infinity"}, False),
    ({"t": "my.event", "d": '{"a":1}}'}, False),
    ({"t": "my.event", "d": '1,"id":"9-9"'}, False),
    ({"t": "my.event", "d": "1}\n\nid: 9-9\n"}, False),
    ({"t": "my.event", "d": ""}, False),
    ({"t": "my.event", "d": "[" * 100_000}, False),
    ({"t": "my.event", "d": b"\xef\xbb\xbf1"}, False),
    ({"t": "my.event", "d": '{"a":1,"a":2}'}, True),
    ({"t": "my.event"}, True),
    ({"t": "my.event", "d": "x" * 2**20}, False),
    ({"t": "my.event", "d": '"' + "x" * 2**20 + '"'}, False),
    ({"t": "my.event", "d": '"' + "x" * 20 * 2**20 + '"'}, False),
    ({"t": "my.event", "d": "1", "m": '"' + "x" * 2**20 + '"'}, False),
    ({"t": "my.event", "d": "1", "s": "x" * 2**20}, False),
    ({"t": "my.event", "d": "1", "ts": "9" * 2**20}, True),
    ({"t": "x" * 2**20, "d": "1"}, False),
    ({"x" * 2**20: "1"}, False),
    ({f"field{number}": "1" for number in range(1000)}, False),
    ({"": ""}, False),
    ({"d": '{"x":1}'}, False),
    ({"t": "", "d": "1"}, False),
    ({"t": "My.Event", "d": "1"}, False),
    ({"t": "a..b", "d": "1"}, False),
    ({"t": "my event", "d": "1"}, False),
    ({"t": "stream.end", "d": "{}"}, False),
    ({"t": "stream.gap", "d": "{}"}, False),
    ({"t": "stream.reconnect", "d": "{}"}, False),
    ({"t": "execution.finished", "d": "{}"}, False),
    ({"t": "execution.completed", "d": '{"result":"forged"}'}, False),
    ({"t": "execution.failed", "d": "{}"}, False),
    ({"t": "execution.cancelled"}, False),
    ({"t": "execution.timed_out", "d": "{}", "ts": "x"}, False),
    ({"t": "my.event", "d": "1", "e": "gzip"}, False),
    ({"t": "my.event", "d": "1", "ts": "2026-13-45T99:99:99Z"}, True),
    ({"t": "my.event", "d": "1", "ts": '2026-01-01T00:00:00Z","type":"x'}, True),
    ({"t": "dropped", "d": "1"}, True),
    ({"t": "token", "d": '{"text":7}'}, True),
]


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("live", [True, False], ids=["live", "replayed"])
async def test_every_hostile_entry_is_shown_or_dropped_under_its_id_and_our_own_go_on(
    bus: Bus, client: Redis, gateway_url: str, run: str, live: bool
) -> None:
    ids = await append_events(bus, run, 1)
    hostile: dict[str, tuple[Fields, bool]] = {}
    async with open_stream(gateway_url, run) as stream:
        if live:
            frames = await stream.until("stream.caught_up")
        publisher = bus.publisher(run)
        for number, (fields, showable) in enumerate(hostile_entries()):
            hostile[await add(client, bus, run, fields)] = (fields, showable)
            if number % 7 == 0:
                await publisher.append("custom.between", {"k": number})
        await publisher.append("custom.last")
        await publisher.aclose()
        ids = await log_ids(bus, run)
        if live:
            frames += await stream.until_true(lambda frame: frame.id == ids[-1])
    if not live:
        frames = await replay_to(gateway_url, run, ids[-1])
    assert ids_of(frames) == ids
    assert {"stream.gap", "stream.end"} & set(names_of(frames)) == set()
    for frame in frames:
        if frame.id not in hostile:
            continue
        fields, showable = hostile[frame.id]
        shown = {key: value[:60] for key, value in fields.items()}
        assert (frame.name == "dropped") != (showable and fields["t"] != "dropped"), (shown, frame)
        if not showable:
            assert frame.payload["data"]["reason"] in {"invalid_entry", "not_the_ending"}, shown
        assert len(str(frame.payload)) < 2000, shown
    # The same as pages of JSON, which a parser takes as they are.
    paged: list[str] = []
    after = "0"
    async with httpx.AsyncClient(base_url=gateway_url, timeout=patient(20)) as http:
        while True:
            answer = await http.get(f"/v1/executions/{run}/events", params={"after": after, "limit": "30"})
            assert answer.status_code == 200
            page = answer.json()
            paged += [item["id"] for item in page["items"]]
            after = page["next"]
            if not page["more"]:
                break
    assert paged == ids


@pytest.mark.parametrize("depth", [999, 1000, 1001, 1023, 1024, 1025])
async def test_nesting_at_the_limit_of_parsers_breaks_no_frame(
    bus: Bus, client: Redis, gateway_url: str, run: str, depth: int
) -> None:
    entry_id = await add(client, bus, run, {"t": "my.event", "d": "[" * depth + "]" * depth})
    frames = await replay_to(gateway_url, run, entry_id)
    assert ids_of(frames) == [entry_id]


async def test_a_forged_ending_ends_nobody_and_the_true_one_does(
    bus: Bus, client: Redis, gateway_url: str, run: str, bystander: None
) -> None:
    await append_events(bus, run, 2)
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        forged = await add(client, bus, run, {"t": "execution.completed", "d": "{}"})
        frames = await stream.until_true(lambda frame: frame.id == forged)
        await append_events(bus, run, 2, first=2)
        async with open_stream(gateway_url, run, after=forged) as resumed:
            assert resumed.status == 200
            await resumed.until("stream.caught_up")
            publisher = bus.publisher(run)
            terminal = str(await publisher.append("execution.failed", {"reason": "true"}))
            await publisher.aclose()
            for viewer in (stream, resumed):
                rest = await viewer.rest()
                assert [frame.id for frame in rest[-2:]] == [terminal, None]
                assert rest[-1].payload["status"] == "failed"
    assert frames[-1].name == "dropped"
    # Behind the ending nothing counts.
    await add(client, bus, run, {"t": "my.event", "d": "1"})
    replayed = await replay_to(gateway_url, run, terminal)
    assert ids_of(replayed)[-1] == terminal
    async with open_stream(gateway_url, run, after=terminal) as ended:
        assert ended.status == 204


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(
    "entry_id",
    ["{year}-0", "{year}-1", "{now}-18446744073709551615", "{year}-18446744073709551614", "999999999999998-5"],
)
async def test_our_own_events_go_on_behind_an_entry_far_ahead(
    bus: Bus, client: Redis, gateway_url: str, run: str, entry_id: str
) -> None:
    await append_events(bus, run, 3)
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        now_ms = int(time.time() * 1000)
        ahead = entry_id.format(now=now_ms + 5, year=now_ms + 365 * 86_400_000)
        await add(client, bus, run, {"t": "my.event", "d": "1"}, ahead)
        ids = await append_events(bus, run, 3, first=3)
        live = await stream.until_true(lambda frame: frame.id == ids[-1])
    assert len(ids) == 7
    assert ids_of(live) == ids[3:]
    if ahead.endswith("-0"):
        # Who claims a number that is not the next one looks like a loss, and that is told.
        assert controls_of(live, "stream.gap") == []
    async with open_stream(gateway_url, run, after=ahead) as stream:
        assert ids_of(await stream.until_true(lambda frame: frame.id == ids[-1])) == ids[4:]


async def test_an_entry_that_leaves_no_id_refuses_our_events_with_a_reason_and_hurts_no_viewer(
    bus: Bus, client: Redis, gateway_url: str, run: str, bystander: None
) -> None:
    await append_events(bus, run, 3)
    last = "18446744073709551615-18446744073709551615"
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        await add(client, bus, run, {"t": "my.event", "d": "1"}, last)
        await stream.until_true(lambda frame: frame.id == last)
        with pytest.raises(LogExhaustedError):
            await append_events(bus, run, 1, first=3)
    assert ids_of(await replay_to(gateway_url, run, last))[-1] == last
    async with open_stream(gateway_url, run, after=last) as stream:
        frames = await stream.until("stream.caught_up")
    assert names_of(frames) == ["stream.open", "stream.caught_up"]


async def test_strangers_alone_in_bursts_of_one_millisecond_look_like_no_loss(
    bus: Bus, client: Redis, gateway_url: str, run: str
) -> None:
    added = await burst(client, bus, run, 2000)
    assert any(not entry_id.endswith("-0") for entry_id in added)
    chance = random.Random(11)
    for _ in range(30):
        start = chance.randrange(len(added) - 1)
        async with open_stream(gateway_url, run, after=added[start]) as stream:
            frames = await stream.until_true(lambda frame: frame.id == added[-1])
        assert controls_of(frames, "stream.gap") == []
        assert ids_of(frames) == added[start + 1 :]


async def burst(client: Redis, bus: Bus, run: str, count: int) -> list[str]:
    pipeline = client.pipeline(transaction=False)
    for number in range(count):
        pipeline.xadd(bus.keys.log(run), {"t": "my.event", "d": str(number)})
    return [entry_id.decode() for entry_id in await pipeline.execute()]


async def test_viewers_of_a_run_to_which_strangers_write_at_the_same_time_get_exactly_the_log_without_a_false_gap(
    bus: Bus, client: Redis, gateway_url: str, run: str, bystander: None
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    await append_events(bus, run, 1)
    followers = [
        Follower(run, [gateway_url], random.Random(chance.random()), lambda own: int(own.expovariate(1 / 8000)) + 1)
        for _ in range(12)
    ]
    async with asyncio.timeout(patient(60)), asyncio.TaskGroup() as group:
        for follower in followers:
            group.create_task(follower.follow())
        publisher = bus.publisher(run)
        for turn in range(150):
            writing = group.create_task(burst(client, bus, run, chance.choice((1, 1, 2, 30))))
            await emit_events(publisher, chance.choice((1, 1, 2, 30)), first=turn)
            await publisher.flush()
            await writing
            await asyncio.sleep(chance.choice((0, 0, 0.002, 0.01)))
        await publisher.append("execution.completed")
        await publisher.aclose()
    ids = await log_ids(bus, run)
    assert sum(follower.connections for follower in followers) > 50
    for follower in followers:
        assert follower.ids == ids
        assert follower.gaps == []


async def test_a_key_of_the_wrong_type_is_told_and_the_run_goes_on_when_it_is_repaired(
    bus: Bus, client: Redis, gateway_url: str, run: str, bystander: None
) -> None:
    log = bus.keys.log(run)
    ids = await append_events(bus, run, 3)
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        await client.rename(log, f"{log}-away")
        await client.set(log, "no stream")
        frames = await stream.rest(seconds=10)
    assert frames[-1].name == "stream.error"
    assert frames[-1].payload["code"] == "log_unreadable"
    async with open_stream(gateway_url, run, after=ids[-1]) as refused:
        assert refused.status == 409
    await client.rename(f"{log}-away", log)
    async with open_stream(gateway_url, run, after=ids[-1]) as stream:
        await stream.until("stream.caught_up")
        more = await append_events(bus, run, 2, first=3)
        live = await stream.until_true(lambda frame: frame.id == more[-1])
    assert ids_of(live) == more[3:]


async def test_a_state_of_the_wrong_type_is_a_clear_refusal(
    bus: Bus, client: Redis, gateway_url: str, run: str, bystander: None
) -> None:
    await append_events(bus, run, 3)
    await client.set(bus.keys.meta(run), "no hash")
    async with open_stream(gateway_url, run) as stream:
        assert stream.status == 409
    async with httpx.AsyncClient(base_url=gateway_url) as http:
        assert (await http.get(f"/v1/executions/{run}")).status_code == 409


async def test_a_state_in_which_every_field_is_nonsense_breaks_nothing(
    bus: Bus, client: Redis, gateway_url: str, run: str, bystander: None
) -> None:
    ids = await append_events(bus, run, 3)
    names = ("status", "pipeline", "tenant", "owner", "attempt", "fence", "created", "started", "ended", "terminal")
    nonsense: Any = dict.fromkeys(names, INJECTION + b"\xff")
    await client.hset(bus.keys.meta(run), mapping=nonsense)
    async with open_stream(gateway_url, run) as stream:
        frames = await stream.until("stream.caught_up")
    assert ids_of(frames) == ids
    async with httpx.AsyncClient(base_url=gateway_url) as http:
        assert (await http.get(f"/v1/executions/{run}")).status_code == 200


async def test_entries_deleted_from_the_middle_are_a_gap_to_who_comes_later_and_none_to_who_saw_them(
    bus: Bus, client: Redis, gateway_url: str, run: str, bystander: None
) -> None:
    ids = await append_events(bus, run, 10)
    # From elsewhere than the other: pages are shared for some seconds.
    async with open_stream(gateway_url, run, after=ids[0]) as stream:
        seen = await stream.until("stream.caught_up")
        await client.xdel(bus.keys.log(run), *ids[4:6])
        late = await replay_to(gateway_url, run, ids[-1])
        more = await append_events(bus, run, 1, first=10)
        seen += await stream.until_true(lambda frame: frame.id == more[-1])
    assert ids_of(seen) == [*ids[1:], more[-1]]
    assert controls_of(seen, "stream.gap") == []
    gaps = controls_of(late, "stream.gap")
    assert [(gap.payload["requested"], gap.payload["earliest"], gap.payload["reason"]) for gap in gaps] == [
        (ids[3], ids[6], "hole")
    ]
    assert ids_of(late) == ids[:4] + ids[6:]


async def test_a_cursor_that_was_deleted_is_a_gap_and_what_follows_it_comes(
    bus: Bus, client: Redis, gateway_url: str, run: str, bystander: None
) -> None:
    ids = await append_events(bus, run, 10)
    await client.xdel(bus.keys.log(run), ids[4], ids[9])
    async with open_stream(gateway_url, run, after=ids[4]) as stream:
        frames = await stream.until("stream.caught_up")
        more = await append_events(bus, run, 2, first=10)
        frames += await stream.until_true(lambda frame: frame.id == more[-1])
    assert names_of(frames)[1] == "stream.gap"
    assert ids_of(frames) == [*ids[5:9], *more[-2:]]
    # Loss of number 10 as well is told, before what follows it.
    where = [frame.name for frame in frames if frame.id is None or frame.id in more[-2:]]
    assert where.index("stream.gap", 2) < where.index("custom.counted")


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("what", ["trim", "empty", "delete", "rename", "replace"])
async def test_a_live_stream_outlives_what_happens_to_its_log(
    bus: Bus, client: Redis, gateway_url: str, run: str, what: str
) -> None:
    log = bus.keys.log(run)
    ids = await append_events(bus, run, 10)
    async with open_stream(gateway_url, run) as stream:
        await stream.until("stream.caught_up")
        match what:
            case "trim":
                await client.xtrim(log, maxlen=1, approximate=False)
            case "empty":
                await client.xtrim(log, maxlen=0, approximate=False)
            case "delete":
                await client.delete(log)
            case "rename":
                await client.rename(log, f"{log}-away")
            case "replace":
                await burst(client, bus, f"{run}-other", 20)
                await client.rename(bus.keys.log(f"{run}-other"), log)
        more = await append_events(bus, run, 3, first=10)
        frames = await stream.until_true(lambda frame: frame.id == more[-1], seconds=10)
        assert ids_of(frames)[-3:] == more[-3:]
        # Again, so that it is not only the first that comes through.
        more = await append_events(bus, run, 3, first=13)
        again = await stream.until_true(lambda frame: frame.id == more[-1], seconds=10)
    assert ids_of(again) == more[-3:]
    told = [gap.payload["requested"] for gap in controls_of(frames, "stream.gap")]
    if what in {"delete", "rename", "replace"}:
        # None when our next, whose number follows, was there before anybody could look: nothing was lost then.
        assert told in ([ids[-1]], [])
    elif what != "empty":
        # It had seen all that is gone. (Of an empty log nothing can be proved.)
        assert told == []


async def test_a_flushed_server_is_told_to_every_viewer_and_later_events_arrive(
    fresh_server: RunningServer, run: str
) -> None:
    runs = [f"{run}-{number}" for number in range(10)]
    with GatewayProcess(redis_url=fresh_server.url) as gateway:
        async with await open_bus(fresh_server.url) as bus, Redis.from_url(fresh_server.url) as client:
            url = await asyncio.to_thread(gateway.url)
            old = {each: await append_events(bus, each, 3) for each in runs}

            async def watch(each: str) -> None:
                async with open_stream(url, each) as stream:
                    await stream.until("stream.caught_up")
                    watching.release()
                    await flushed.wait()
                    frames = await stream.until("stream.gap", seconds=10)
                    assert frames[-1].payload["requested"] == old[each][-1]
                    new = await append_events(bus, each, 2)
                    frames = await stream.until_true(lambda frame: frame.id == new[-1], seconds=10)
                    assert ids_of(frames) == new

            watching, flushed = asyncio.Semaphore(0), asyncio.Event()
            async with asyncio.timeout(patient(30)), asyncio.TaskGroup() as group:
                for each in runs:
                    group.create_task(watch(each))
                for _ in runs:
                    await watching.acquire()
                await client.flushall()
                flushed.set()
