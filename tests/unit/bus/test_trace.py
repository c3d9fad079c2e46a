"""W3C Trace Context: what is well formed travels, what is not is left out, as the specification wants it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus.log.outbox import Outbox
from tailrace.bus.model.event import Event
from tailrace.bus.model.trace import meta_of, traceparent_of

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("header", [TRACE, f" {TRACE} ", "cc" + TRACE[2:] + "-what-comes-later", "01" + TRACE[2:]])
def test_a_context_that_can_be_used_is_taken_as_version_00(header: str) -> None:
    assert traceparent_of(header) == TRACE


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        TRACE.upper(),
        TRACE + "-more",
        TRACE + "x",
        "ff" + TRACE[2:],
        "01" + TRACE[2:] + "x",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    ],
)
def test_what_is_malformed_is_left_out(header: str | None) -> None:
    assert traceparent_of(header) is None


@given(st.text())
def test_nothing_breaks_it(header: str) -> None:
    traceparent_of(header)


def test_tokens_still_merge_and_what_an_event_carries_itself_comes_first() -> None:
    box = Outbox(10, 10_000, meta=meta_of(TRACE))
    box.add(Event("token", {"text": "a"}), "t")
    assert box.add(Event("token", {"text": "b"}), "t")
    box.add(Event("custom.a", None, meta={"traceparent": "mine", "x": 1}), "t")
    token, own = (dict(zip(p.fields[::2], p.fields[1::2], strict=True)) for p in box.take())
    assert token[b"d"] == b'{"text":"ab"}'
    assert token[b"m"] == b'{"traceparent":"%b"}' % TRACE.encode()
    assert own[b"m"] == b'{"traceparent":"mine","x":1}'
