"""A link keeps every reply with its command, whatever the server sends, in whatever pieces; and ends once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from tailrace.bus.errors import BusUnavailableError, ConnectionLostError, ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.redis import connection
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.connection import Connection
from tailrace.bus.redis.redis_py import has_ended, take_transport
from tailrace.bus.redis.supervised import SupervisedConnection
from tests.patience import patient, stretched
from tests.unit.tail.scripted import Scripted, scripted

pytestmark = pytest.mark.anyio

# What Redis can say, and what is to be made of it.
REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b"$11\r\na\r\n$1\r\nb\x00:9\r\n", b"a\r\n$1\r\nb\x00:9"),
    (b"$0\r\n\r\n", b""),
    (b":-42\r\n", -42),
    (b"_\r\n", None),
    (b"$-1\r\n", None),
    (b"#f\r\n", False),
    (b"#t\r\n", True),
    (b"*2\r\n*1\r\n$3\r\n1-1\r\n*0\r\n", [[b"1-1"], []]),
    (b"%1\r\n$1\r\nk\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nt\r\n$1\r\na\r\n", {b"k": [[b"1-1", [b"t", b"a"]]]}),
    (b",1.5\r\n", 1.5),
]
PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n"


@pytest.fixture
async def server() -> AsyncGenerator[Scripted, None]:
    async with scripted() as opened:
        yield opened


@pytest.fixture
def pushes() -> list[list[Any]]:
    return []


@pytest.fixture
async def link(server: Scripted, pushes: list[list[Any]]) -> AsyncGenerator[Connection, None]:
    opened = await Connection.open(dial_of(server.url), lambda push: pushes.append(list(push)))
    yield opened
    opened.close()


async def settled(link: Connection) -> ConnectionLostError:
    async with asyncio.timeout(patient(10)):
        return await asyncio.shield(link.lost)


async def say_in_two(server: Scripted, link: Connection, data: bytes, cut: int) -> None:
    """Let the first part arrive by itself before the second is sent."""
    before = link.received_bytes
    server.say(data[:cut])
    async with asyncio.timeout(patient(10)):
        while link.received_bytes < before + cut:  # noqa: ASYNC110 - a link tells nobody of half a reply
            await asyncio.sleep(0)
    server.say(data[cut:])


async def test_replies_cut_at_every_byte_belong_to_their_commands(
    server: Scripted, link: Connection, pushes: list[list[Any]]
) -> None:
    """A push between any two replies answers nothing; RESP3's false is a reply, and not the want of one."""
    said = b"".join(PUSH + reply for reply, _ in REPLIES)
    for cut in range(1, len(said)):
        asked = [link.send("ECHO", number) for number in range(len(REPLIES))]
        await say_in_two(server, link, said, cut)
        async with asyncio.timeout(patient(10)):
            got = await asyncio.gather(*asked)
        assert got == [expected for _, expected in REPLIES], cut
        assert [type(reply) for reply in got] == [type(expected) for _, expected in REPLIES], cut
        assert link.pending == 0
    assert pushes == [[b"invalidate", [b"key"]]] * len(REPLIES) * (len(said) - 1)


async def test_commands_of_one_turn_arrive_in_the_order_in_which_they_were_sent(
    server: Scripted, link: Connection
) -> None:
    asked = [link.send("ECHO", number) for number in range(1000)]
    for number in range(1000):
        assert await server.asked() == [b"ECHO", b"%d" % number]
    server.say(b"".join(b":%d\r\n" % number for number in range(1000)))
    assert await asyncio.gather(*asked) == list(range(1000))


async def test_an_error_answers_one_command_and_carries_its_code(server: Scripted, link: Connection) -> None:
    refused, good = link.send("XADD"), link.send("PING")
    server.say(b"-READONLY You can't write against a read only replica.\r\n+PONG\r\n")
    with pytest.raises(ReplyError) as refusal:
        await refused
    assert refusal.value.code == "READONLY"
    assert await good == b"PONG"
    assert not link.lost.done()


async def test_the_reply_to_a_cancelled_command_is_thrown_away(server: Scripted, link: Connection) -> None:
    """Source of case 21: redis-py 2624."""
    asked = [link.send("ECHO", number) for number in range(9)]
    for future in asked[::2]:
        future.cancel()
    server.say(b"".join(b":%d\r\n" % number for number in range(9)))
    assert await asyncio.gather(*asked[1::2]) == [1, 3, 5, 7]
    assert link.pending == 0


@pytest.mark.parametrize("surplus", [b":1\r\n:2\r\n", b"-ERR out of the blue\r\n", b"gibberish\r\n"])
async def test_a_surplus_reply_ends_the_link(server: Scripted, link: Connection, surplus: bytes) -> None:
    """Whose it is cannot be known, so nobody can be trusted to get his own from here on."""
    first = link.send("ECHO", 1)
    server.say(b":1\r\n")
    assert await first == 1
    server.say(surplus)
    await settled(link)
    with pytest.raises(ConnectionLostError):
        await link.send("ECHO", 2)


async def test_a_server_that_hangs_up_in_mid_reply_leaves_nobody_waiting(server: Scripted, link: Connection) -> None:
    asked = [link.send("ECHO", number) for number in range(3)]
    server.say(b":0\r\n$10\r\nhalf")
    assert await asked[0] == 0
    server.hang_up()
    for future in asked[1:]:
        with pytest.raises(ConnectionLostError, match="connection to Redis lost"):
            await future
    assert "connection to Redis lost" in str(await settled(link))


async def test_a_link_that_has_ended_answers_at_once(link: Connection) -> None:
    link.close("enough")
    link.close("a second time changes nothing")
    with pytest.raises(ConnectionLostError, match="enough"):
        await link.send("PING")


async def test_an_answer_that_ends_the_link_is_the_last_but_for_those_who_learn_of_it(
    server: Scripted, link: Connection
) -> None:
    told: list[Any] = []

    def end(_: Any) -> None:
        link.close("by an answer")

    link.request(end, "ECHO", 0)
    link.request(told.append, "ECHO", 1)
    server.say(b":0\r\n:1\r\n")
    await settled(link)
    assert [str(reply) for reply in told] == ["by an answer"]


async def test_a_server_that_accepts_and_says_nothing_is_given_up_at_the_deadline() -> None:
    async with scripted(mute=True) as server:
        with pytest.raises(BusUnavailableError, match=r"no answer from Redis within 0\.2 s"):
            await Connection.open(dial_of(server.url), timeout_seconds=0.2)


async def test_a_caller_who_is_cancelled_just_as_the_connection_is_made_leaves_none_behind(server: Scripted) -> None:
    made: list[asyncio.Transport] = []

    async def dial() -> AbstractConnection:
        connection = await dial_of(server.url)()
        made.append(take_transport(connection))
        opening.cancel()
        return connection

    opening = asyncio.create_task(Connection.open(dial))
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert [transport.is_closing() for transport in made] == [True]


async def test_a_server_that_closes_right_behind_the_handshake_is_not_taken_for_one_that_is_silent(
    server: Scripted,
) -> None:
    """Killed just then, it cost owners their leases: who waited for it did so until the watchdog gave it up."""

    async def dial() -> AbstractConnection:
        connection = await dial_of(server.url)()
        server.hang_up()
        async with asyncio.timeout(patient(10)):
            while not has_ended(connection):  # noqa: ASYNC110 - nothing is told of it
                await asyncio.sleep(0.001)
        return connection

    with pytest.raises(BusUnavailableError, match="closed by the server"):
        await Connection.open(dial)


# The watchdog


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become tenths of a second."""
    for name in ("PING_AFTER_SECONDS", "SILENT_AFTER_SECONDS", "WATCH_SECONDS"):
        monkeypatch.setattr(connection, name, getattr(connection, name) / 10)


async def test_a_server_that_leaves_a_command_unanswered_is_given_up(
    hasty: None, server: Scripted, link: Connection
) -> None:
    begun = asyncio.get_running_loop().time()
    asked = link.send("ECHO", 1)
    with pytest.raises(ConnectionLostError, match="has not answered"):
        await asked
    assert 0.45 < asyncio.get_running_loop().time() - begun < stretched(1.5)


async def test_a_silent_link_is_pinged_and_lives_as_long_as_it_is_answered(
    hasty: None, server: Scripted, link: Connection
) -> None:
    for _ in range(4):
        assert await server.asked() == [b"PING"]
        server.say(b"+PONG\r\n")
    assert not link.lost.done()
    asked = link.send("ECHO", 1)
    assert await server.asked() == [b"ECHO", b"1"]
    server.say(b":1\r\n")
    assert await asked == 1


async def test_a_silent_link_whose_ping_is_not_answered_ends_counting_the_silence_before_it(
    hasty: None, server: Scripted, link: Connection
) -> None:
    """Half-open: nobody asks, nobody is told, and it must be found all the same. Source of case 22: vexa 267."""
    asked = link.send("ECHO", 1)
    server.say(b":1\r\n")
    await asked
    begun = asyncio.get_running_loop().time()
    await settled(link)
    assert 0.3 < asyncio.get_running_loop().time() - begun < stretched(0.7 + 0.5)


async def test_what_is_pushed_counts_as_a_sign_of_life(hasty: None, server: Scripted, link: Connection) -> None:
    for _ in range(20):
        server.say(PUSH)
        await asyncio.sleep(0.04)
    assert not link.lost.done()
    assert link.pending == 0


async def test_a_command_that_cannot_be_sent_fails_alone_and_the_next_is_replicated(server: Scripted) -> None:
    line = SupervisedConnection(dial_of(server.url), counters=Counters(), name="line")
    await line.connect()
    try:
        with pytest.raises(TypeError):
            await line.replicated(1, 1000, "SET", object())  # type: ignore[arg-type]
        replicated = asyncio.create_task(line.replicated(1, 1000, "SET", "key", "value"))
        assert [await server.asked(), await server.asked()] == [[b"SET", b"key", b"value"], [b"WAIT", b"1", b"1000"]]
        server.say(b"+OK\r\n:1\r\n")
        async with asyncio.timeout(patient(10)):
            assert await replicated == (b"OK", 1)
    finally:
        await line.aclose()
