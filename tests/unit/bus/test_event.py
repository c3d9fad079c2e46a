"""What a producer may state; everything else is refused with the field's name and the cure."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tailrace.bus.errors import EventTooLargeError, InvalidEventError, InvalidExecutionIdError
from tailrace.bus.model.event import (
    LIFECYCLE_TYPES,
    TERMINAL_TYPES,
    check_execution_id,
    check_step,
    check_type,
    encode_json,
    new_execution_id,
)


@pytest.mark.parametrize("event_type", ["token", "step.progress", "a", "a1.b_2.3", "custom.x", "streams.x", "x" * 128])
def test_a_well_formed_type_is_taken(event_type: str) -> None:
    assert check_type(event_type) == event_type


@pytest.mark.parametrize("event_type", sorted(LIFECYCLE_TYPES))
def test_the_life_cycle_may_be_stated(event_type: str) -> None:
    assert check_type(event_type) == event_type


def test_every_ending_is_part_of_the_life_cycle() -> None:
    assert TERMINAL_TYPES < LIFECYCLE_TYPES


@pytest.mark.parametrize(
    "event_type",
    [
        *("", "A", "1a", "a.", ".a", "a..b", "a-b", "a b", "a\n", "ä", "a.b\r\ndata: x", "x" * 129),
        *("stream.gap", "stream.anything", "execution.exploded", "execution.completed2"),
        *(None, 7, b"token", ["token"], {"a": 1}, True),
    ],
)
def test_any_other_type_is_refused_by_name(event_type: object) -> None:
    with pytest.raises(InvalidEventError, match=r"^type: ") as caught:
        check_type(event_type)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("step", ["fetch", "Schritt 1: ärger", "a.b/c", "日本語", "x" * 256])
def test_a_step_may_be_named_in_any_language(step: str) -> None:
    assert check_step(step) == step


@pytest.mark.parametrize(
    "step",
    ["", "x" * 257, "a\nb", "a\rb", "a\x00b", "a\u2028b", "a\u0085b", "a\x7f", "half \ud83d", None, 5, ["a"], b"a"],
)
def test_any_other_step_is_refused_by_name(step: object) -> None:
    with pytest.raises(InvalidEventError, match=r"^step: ") as caught:
        check_step(step)
    assert str(caught.value).isprintable()


@given(st.text(max_size=300))
def test_a_step_that_is_taken_has_a_utf8_form_on_one_line(step: str) -> None:
    try:
        check_step(step)
    except InvalidEventError:
        return
    assert len(step.splitlines()) == 1
    step.encode()


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", fullmatch=True))
def test_a_well_formed_execution_id_is_taken(execution_id: str) -> None:
    assert check_execution_id(execution_id) == execution_id


@pytest.mark.parametrize(
    "execution_id",
    ["", "-a", "_a", "a b", "a}", "{a}", "a:b", "a/b", "a\n", "ä", "x" * 129, "..", None, 5, b"a", ["a"]],
)
def test_any_other_execution_id_is_refused_by_the_name_of_its_field(execution_id: object) -> None:
    with pytest.raises(InvalidExecutionIdError, match=r"^run: "):
        check_execution_id(execution_id, field="run")


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_new_execution_id_is_a_uuid_version_7_of_its_time(unix_ms: int, noise: bytes) -> None:
    made = new_execution_id(unix_ms, lambda _: noise)
    parsed = uuid.UUID(made)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == unix_ms
    assert check_execution_id(made) == made


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_new_execution_ids_sort_by_creation(unix_ms: int, one: bytes, other: bytes) -> None:
    assert new_execution_id(unix_ms, lambda _: one) < new_execution_id(unix_ms + 1, lambda _: other)


@given(st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_every_bit_of_randomness_but_the_fixed_ones_is_used(one: bytes, other: bytes) -> None:
    # RFC 9562: 12 bits rand_a and 62 bits rand_b; of our 80 the six between them are not shown.
    def used(noise: bytes) -> tuple[int, int]:
        number = int.from_bytes(noise, "big")
        return number >> 68, number & (2**62 - 1)

    same = new_execution_id(0, lambda _: one) == new_execution_id(0, lambda _: other)
    assert same == (used(one) == used(other))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_value_is_one_line_and_survives(value: Any) -> None:
    encoded = encode_json(value)
    assert b"\n" not in encoded
    assert b"\r" not in encoded
    assert orjson.loads(encoded) == value


class _Model(BaseModel):
    name: str


@pytest.mark.parametrize(
    ("value", "shown"),
    [({"b", "a"}, b'["a","b"]'), (frozenset({1}), b"[1]"), (_Model(name="x"), b'{"name":"x"}')],
)
def test_sets_and_pydantic_models_have_a_json_form(value: object, shown: bytes) -> None:
    assert encode_json(value) == shown


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


_CIRCLE: list[Any] = []
_CIRCLE.append(_CIRCLE)


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, "half \ud800", {"a": b"bytes"}, _nested(2000), _CIRCLE, {"\ud800": 1}],
    ids=["object", "number as key", "surrogate", "bytes", "deep", "circle", "surrogate as key"],
)
def test_what_has_no_json_form_is_refused_by_the_name_of_its_field(value: object) -> None:
    with pytest.raises(InvalidEventError, match=r"^result: cannot be written as JSON"):
        encode_json(value, field="result")


def test_an_event_over_the_limit_is_refused_with_its_size_and_the_limit() -> None:
    with pytest.raises(EventTooLargeError, match="1002 bytes, the limit is 1001") as caught:
        encode_json("x" * 1000, limit_bytes=1001)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (1002, 1001)
    assert encode_json("x" * 1000, limit_bytes=1002)
