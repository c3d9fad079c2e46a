"""The measuring WebSocket client reads frames however they are cut, and answers what it must."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.load.frames import CLOSE, PING, PONG, TEXT, Unframer, masked, upgrade


def server_frame(opcode: int, payload: bytes) -> bytes:
    """As a server sends it: the same, without mask."""
    frame = bytearray(masked(opcode, payload))
    key_at = {126: 4, 127: 10}.get(frame[1] & 0x7F, 2)
    frame[1] &= 0x7F
    del frame[key_at : key_at + 4]
    return bytes(frame)


@given(st.lists(st.sampled_from([0, 1, 125, 126, 65_535, 65_536, 70_000]), max_size=5), st.integers(100, 200_000))
def test_payloads_come_out_whole_however_the_bytes_are_cut(sizes: list[int], step: int) -> None:
    payloads = [b"~" * size for size in sizes]
    stream = b"".join(server_frame(TEXT, payload) for payload in payloads)
    unframer = Unframer()
    got = b"".join(unframer.feed(stream[at : at + step])[0] for at in range(0, len(stream), step))
    assert got == b"".join(payloads)


def test_a_ping_is_answered_with_its_own_payload_and_is_not_data() -> None:
    assert Unframer().feed(server_frame(PING, b"here?")) == (b"", masked(PONG, b"here?"))


def test_a_close_is_answered_and_noticed() -> None:
    unframer = Unframer()
    assert unframer.feed(server_frame(CLOSE, b"\x03\xe8")) == (b"", masked(CLOSE, b"\x03\xe8"))
    assert unframer.closed


def test_the_handshake_offers_no_extension() -> None:
    request = upgrade("bench", "/v1/ws", "tailrace.v1.json", {})
    assert request.startswith(b"GET /v1/ws HTTP/1.1\r\n")
    assert request.endswith(b"\r\n\r\n")
    assert b"extensions" not in request.lower()
