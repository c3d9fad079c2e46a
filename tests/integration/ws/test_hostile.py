"""What a rude client sends costs it its own socket at most."""

from __future__ import annotations

import asyncio
import contextlib

import hypothesis.strategies as st
import msgpack
import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from bench.load.frames import CLOSE, TEXT, masked
from tailrace.bus import Bus
from tailrace.gateway.limits.sockets import MAX_FRAME_BYTES, MAX_MALFORMED
from tailrace.gateway.streams.socket_schema import SERVER_FRAME
from tests.integration.ws.client import publish
from tests.integration.ws.raw import raw
from tests.patience import stretched

pytestmark = pytest.mark.anyio

BINARY = 0x2
PING = {"op": "ping", "id": "still there"}


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"null", b"[]", b'"ping"', b"{", b'{"op":"ping"}', b"[" * 5000, b'{"op":"ping","id":1}x']
)
async def test_a_bad_frame_is_an_error_and_the_socket_lives(gateway_url: str, payload: bytes) -> None:
    async with raw(gateway_url) as client:
        await client.write(masked(TEXT, payload))
        error = await client.until("error")
        assert error["id"] is None
        assert error["code"] in {"invalid_frame", "missing_field"}
        await client.send(PING)
        await client.until("pong")


@pytest.mark.parametrize(
    ("subprotocol", "opcode", "payload"),
    [
        ("tailrace.v1.json", BINARY, orjson.dumps(PING)),
        ("tailrace.v1.msgpack", TEXT, orjson.dumps(PING)),
        ("tailrace.v1.msgpack", BINARY, orjson.dumps(PING)),
        ("tailrace.v1.msgpack", BINARY, msgpack.packb(PING) + b"\x00"),
        ("tailrace.v1.msgpack", BINARY, b"\xdd\xff\xff\xff\xff"),
        ("tailrace.v1.msgpack", BINARY, b"\x81\xc0\xc0"),
    ],
)
async def test_a_frame_of_another_kind_is_an_error(
    gateway_url: str, subprotocol: str, opcode: int, payload: bytes
) -> None:
    async with raw(gateway_url, subprotocol=subprotocol) as client:
        await client.write(masked(opcode, payload))
        _, answer = await client.frame()
        (error,) = msgpack.unpackb(answer) if subprotocol.endswith("msgpack") else orjson.loads(answer)
        assert (error["op"], error["code"]) == ("error", "invalid_frame")


async def test_a_frame_as_large_as_may_be_is_read_and_a_larger_one_closes_with_1009(gateway_url: str) -> None:
    async with raw(gateway_url) as client:
        await client.write(masked(TEXT, b"x" * MAX_FRAME_BYTES))
        assert (await client.until("error"))["code"] == "invalid_frame"
        await client.write(masked(TEXT, b"x" * (MAX_FRAME_BYTES + 1)))
        assert await client.close_code() == 1009


async def test_a_large_frame_in_pieces_is_no_way_around_the_limit(gateway_url: str) -> None:
    half = masked(TEXT, b"x" * (MAX_FRAME_BYTES // 2 + 1))
    async with raw(gateway_url) as client:
        await client.write(bytes([half[0] & 0x7F]) + half[1:])
        await client.write(bytes([0x80]) + half[1:])
        assert await client.close_code() == 1009


async def test_too_many_bad_frames_in_a_row_close_with_4429(gateway_url: str) -> None:
    async with raw(gateway_url) as client:
        for _ in range(3):
            await client.write(masked(TEXT, b"x") * (MAX_MALFORMED - 1))
            await client.send(PING)
            await client.until("pong")
        await client.write(masked(TEXT, b"x") * MAX_MALFORMED)
        assert await client.close_code() == 4429
        assert len([said for said in client.said if said["op"] == "error"]) == 4 * MAX_MALFORMED - 3


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02{}", 1002),  # not masked
        (masked(0x3, b""), 1002),
        (masked(TEXT, b"\xff\xfe"), 1007),
        (bytes([0xF1, 0x80, 0, 0, 0, 0]), 1002),  # reserved bits
    ],
)
async def test_what_breaks_websocket_itself_closes_with_its_code(gateway_url: str, data: bytes, code: int) -> None:
    async with raw(gateway_url) as client:
        await client.write(data)
        assert await client.close_code() == code


@pytest.mark.parametrize(
    "data",
    [
        masked(TEXT, b"\xff\xfe") + masked(TEXT, b"{}"),
        masked(TEXT, '"cut short: ü'.encode()[:-1]),
        bytes([masked(TEXT, b"\xc3")[0] & 0x7F]) + masked(TEXT, b"\xc3")[1:] + masked(0x0, b"\x28"),
        masked(CLOSE, b"\x03\xe8\xff\xfe"),
    ],
    ids=["text", "cut short", "in pieces", "close reason"],
)
async def test_attack_60_text_that_is_not_utf_8_closes_with_1007_and_without_a_traceback(
    gateway_url: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw(gateway_url) as client:
        await client.write(data)
        assert await client.close_code() == 1007
    async with raw(gateway_url) as client:
        # A character that is cut by fragments, and none by the message, is well.
        first, second = masked(TEXT, b'{"op": "ping", "id": "\xc3'), masked(0x0, b'\xbc"}')
        await client.write(bytes([first[0] & 0x7F]) + first[1:] + second)
        assert (await client.until("pong"))["id"] == "ü"
    assert [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"] == []


async def test_a_flood_of_ops_is_answered_one_by_one_in_order(bus: Bus, gateway_url: str) -> None:
    await publish(bus, "a", 1)
    ops = []
    for number in range(300):
        ops.append({"op": "subscribe", "id": 2 * number, "execution": "a"})
        ops.append({"op": "unsubscribe", "id": 2 * number + 1, "execution": "a"})
    async with raw(gateway_url) as client:
        await client.write(b"".join(masked(TEXT, orjson.dumps(op)) for op in [*ops, PING]))
        await client.until("pong")
        answers = [said["id"] for said in client.said if said["op"] in {"subscribed", "unsubscribed"}]
        assert answers == list(range(600))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OPS = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["subscribe", "unsubscribe", "ping", "cancel", "auth"]) | VALUES,
        "id": st.integers(0, 99) | VALUES,
        "execution": st.sampled_from(["a", "nobody", "../a", ""]) | VALUES,
        "from": st.sampled_from(["0", "tail", "-1", "1-1", "9" * 30 + "-1", "1-1\r\nid: 2"]) | VALUES,
        "types": st.lists(st.sampled_from(["custom.*", "*", "A"]), max_size=3) | VALUES,
        "step": st.sampled_from(["step0", "", "\x00"]) | VALUES,
        "coalesce_ms": st.sampled_from([0, 1, 5000]) | VALUES,
    },
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(frames=st.lists(OPS | VALUES | st.binary(max_size=60), min_size=1, max_size=MAX_MALFORMED - 1))
async def test_whatever_is_sent_every_frame_is_answered_and_the_socket_lives(
    bus: Bus, gateway_url: str, frames: list[object]
) -> None:
    if not await bus.log.exists("a"):
        await publish(bus, "a", 3)
    async with raw(gateway_url) as client:
        for frame in frames:
            await client.write(masked(BINARY, frame) if isinstance(frame, bytes) else masked(TEXT, orjson.dumps(frame)))
        await client.send(PING)
        while (await client.until("pong"))["id"] != PING["id"]:
            pass
        SERVER_FRAME.validate_python(client.said)
        answers = [said for said in client.said if said["op"] in {"subscribed", "unsubscribed", "error", "pong"}]
        assert len(answers) == len(frames) + 1


@pytest.mark.parametrize(
    "flood",
    [
        masked(0xA, b"") * 170_000,  # pongs
        masked(0x9, b"") * 170_000,  # pings whose pongs are not read
        bytes([0x00, *masked(0x0, b"")[1:]]) * 170_000,  # continuations, after a message has begun
        masked(TEXT, orjson.dumps(PING)) * 24_000,
    ],
    ids=["pongs", "pings", "continuations", "ops"],
)
async def test_attack_43_a_flood_of_frames_is_closed_and_delays_nobody(gateway_url: str, flood: bytes) -> None:
    longest = 0.0
    loop = asyncio.get_running_loop()

    async def watch_loop() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            longest = max(longest, loop.time() - before - 0.005)

    async with raw(gateway_url) as client:
        begun = masked(TEXT, b"[")
        await client.write(bytes([begun[0] & 0x7F]) + begun[1:] if flood[0] == 0 else b"")
        watching = asyncio.create_task(watch_loop())
        client.writer.write(flood)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            assert await client.close_code() == 1008
        watching.cancel()
    assert longest < stretched(0.1), f"the loop stood still for {longest:.3f} s"


async def test_a_client_that_sends_much_but_not_too_much_is_answered(gateway_url: str) -> None:
    """More than one read of the socket, and frames that arrive in pieces."""
    async with raw(gateway_url) as client:
        sent = b"".join(masked(TEXT, orjson.dumps({**PING, "id": number})) for number in range(1500))
        for start in range(0, len(sent), 10_007):
            await client.write(sent[start : start + 10_007])
        while (await client.until("pong"))["id"] != 1499:
            pass
        assert [said["id"] for said in client.said] == list(range(1500))
