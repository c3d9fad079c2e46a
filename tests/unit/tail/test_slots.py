"""Each command goes to the node of its keys; the map of slots is what the cluster says, however it says it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.model.keys import Keys
from tailrace.bus.redis.slots import SLOTS, redirection, slot_map, slot_of, slot_of_key

KEYS = Keys("tr")
LOG, META, JOBS = KEYS.log("run"), KEYS.meta("run"), KEYS.jobs("default")
ASKED = ("10.0.0.9", 7000)


def test_slots_are_those_of_the_specification() -> None:
    """Redis Cluster specification, "Hash tags": the tag alone decides; 12739 is its CRC16 of 123456789."""
    assert slot_of_key("123456789") == 12739
    assert slot_of_key("{user1000}.following") == slot_of_key("{user1000}.followers") == slot_of_key("user1000")
    assert slot_of_key("foo{}{bar}") != slot_of_key("bar")
    assert slot_of_key("foo{{bar}}zap") == slot_of_key("{bar")
    assert slot_of_key(b"foo{bar}{zap}") == slot_of_key("bar")


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", fullmatch=True))
def test_all_keys_of_an_execution_share_a_slot(execution_id: str) -> None:
    assert len({slot_of_key(key) for key in KEYS.of_execution(execution_id)}) == 1


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("EVALSHA", "digest", 4, *KEYS.of_execution("run"), "producer", 1), LOG),
        (("EVALSHA", "digest", 2, META, KEYS.checkpoints("run"), 7), META),
        (("EVAL", "return 1", 1, META), META),
        (("XREAD", "COUNT", 512, "STREAMS", LOG.encode(), b"0-0"), LOG),
        (("XREAD", "COUNT", 512, "BLOCK", 1000, "STREAMS", LOG, "0-0"), LOG),
        (("XREADGROUP", "GROUP", "workers", "me", "COUNT", 1, "BLOCK", 1000, "STREAMS", JOBS, ">"), JOBS),
        (("XREADGROUP", "GROUP", "streams", "STREAMS", "COUNT", 1, "STREAMS", JOBS, ">"), JOBS),
        (("XRANGE", LOG, "-", "+", "COUNT", 1), LOG),
        (("XREVRANGE", LOG, "+", "-", "COUNT", 1), LOG),
        (("XINFO", "STREAM", LOG), LOG),
        (("XGROUP", "CREATE", JOBS, "workers", "0", "MKSTREAM"), JOBS),
        (("XGROUP", "DELCONSUMER", JOBS, "workers", "me"), JOBS),
        (("XADD", JOBS, "MAXLEN", "~", 10, "*", "id", "run"), JOBS),
        (("XACK", JOBS, "workers", "1-1"), JOBS),
        (("XDEL", JOBS, "1-1"), JOBS),
        (("XPENDING", JOBS, "workers", "-", "+", 1), JOBS),
        (("XAUTOCLAIM", JOBS, "workers", "me", 1000, "0"), JOBS),
        (("HMGET", META, "status"), META),
        (("HGETALL", KEYS.checkpoints("run")), LOG),
        (("EXISTS", LOG, META), LOG),
        (("MEMORY", "USAGE", LOG), LOG),
    ],
)
def test_a_command_goes_to_the_slot_of_its_keys(command: tuple[bytes | str | float, ...], key: str) -> None:
    assert slot_of(command) == slot_of_key(key)
    assert slot_of((str(command[0]).lower(), *command[1:])) == slot_of_key(key)


@pytest.mark.parametrize("command", [("PING",), ("CLIENT", "ID"), ("CLUSTER", "SLOTS"), ("SCRIPT", "LOAD", "x")])
def test_a_command_without_keys_has_no_slot(command: tuple[str, ...]) -> None:
    assert slot_of(command) is None


@given(st.sets(st.integers(1, SLOTS - 1), max_size=8), st.randoms(use_true_random=False), st.integers(0, SLOTS - 1))
def test_every_slot_of_a_whole_map_has_the_owner_of_its_range(cuts: set[int], chance: object, slot: int) -> None:
    bounds = [0, *sorted(cuts), SLOTS]
    ranges = list(pairwise(bounds))
    rows = [[start, end - 1, [b"10.0.0.1", 7000 + number, b"id"]] for number, (start, end) in enumerate(ranges)]
    chance.shuffle(rows)  # type: ignore[attr-defined]
    owner = next(number for number, (start, end) in enumerate(ranges) if start <= slot < end)
    assert slot_map(rows, ASKED).owner(slot) == ("10.0.0.1", 7000 + owner)


def test_a_slot_that_nobody_serves_has_no_owner() -> None:
    found = slot_map([[100, 200, [b"a", 1, b"id"]], [300, 400, [b"b", 2, b"id", []], [b"replica", 3, b"id"]]], ASKED)
    assert [found.owner(slot) for slot in (0, 99, 100, 200, 201, 299, 300, 400, 401, SLOTS - 1)] == [
        None, None, ("a", 1), ("a", 1), None, None, ("b", 2), ("b", 2), None, None,
    ]  # fmt: skip
    assert found.addresses == {("a", 1), ("b", 2)}
    assert slot_map([], ASKED).owner(0) is None


@pytest.mark.parametrize("host", [None, b""])
def test_a_node_that_does_not_know_its_host_is_the_one_that_was_asked(host: bytes | None) -> None:
    assert slot_map([[0, SLOTS - 1, [host, 7001, b"id"]]], ASKED).owner(5) == ("10.0.0.9", 7001)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("MOVED 3999 127.0.0.1:6381", ("127.0.0.1", 6381)),
        ("ASK 3999 redis.example:6381", ("redis.example", 6381)),
        ("MOVED 3999 :6381", ("10.0.0.9", 6381)),
        ("MOVED 3999 2001:db8::7:6381", ("2001:db8::7", 6381)),
    ],
)
def test_a_redirection_names_the_node_or_the_same_host(message: str, expected: tuple[str, int]) -> None:
    assert redirection(message, ASKED) == expected
