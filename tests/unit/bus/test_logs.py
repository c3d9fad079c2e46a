"""A log that machines read: one object a line, with the ids by which one finds all about a run, and no secret."""

from __future__ import annotations

import json
import logging

import pytest

from tailrace.bus.ops.logging import JsonLines, TextLines, log_context, without_secrets


def record(message: str, *args: object, error: Exception | None = None) -> logging.LogRecord:
    trace = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("tailrace.bus.ownership.execution", logging.WARNING, "x.py", 1, message, args, trace)


def test_a_record_is_one_line_of_json_with_its_execution() -> None:
    line = JsonLines().format(record("execution %s: lease lost\nfor good", "run-7"))
    assert "\n" not in line
    parsed = json.loads(line)
    assert parsed.pop("ts").endswith("Z")
    assert parsed == {
        "level": "warning",
        "logger": "tailrace.bus.ownership.execution",
        "message": "execution run-7: lease lost\nfor good",
        "execution_id": "run-7",
    }


def test_what_is_logged_within_a_request_carries_its_ids() -> None:
    token = log_context.set({"request_id": "r1", "execution_id": "of the request"})
    try:
        parsed = json.loads(JsonLines().format(record("execution other: something")))
    finally:
        log_context.reset(token)
    assert (parsed["request_id"], parsed["execution_id"]) == ("r1", "of the request")


def test_a_traceback_stays_within_its_line() -> None:
    parsed = json.loads(JsonLines().format(record("broke", error=ValueError("with Bearer abcdefghijklmnop inside"))))
    assert "ValueError" in parsed["traceback"]
    assert "abcdefghijklmnop" not in parsed["traceback"]


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer eyJhbGciOi.J9.abc",
        "GET /v1/ws?ticket=eyJhbGciOi.J9.abc&x=1",
        "{'authorization': 'eyJhbGciOi.J9.abc'}",
        "token=eyJhbGciOi.J9.abc",
    ],
)
def test_no_token_comes_into_a_log(text: str) -> None:
    assert "eyJhbGciOi" not in without_secrets(text)
    assert "eyJhbGciOi" not in TextLines("%(message)s").format(record("%s", text))
    assert "eyJhbGciOi" not in JsonLines().format(record("%s", text))


def test_attack_79_a_message_with_half_a_surrogate_pair_is_logged_and_shows_it() -> None:
    broken = "caf\udce9.txt"
    parsed = json.loads(JsonLines().format(record("cannot read %s", broken, error=OSError(broken))))
    assert parsed["message"] == r"cannot read caf\udce9.txt"
    assert r"caf\udce9.txt" in parsed["traceback"]


def test_attack_48_control_characters_are_escaped_and_end_no_line() -> None:
    """As a path with ``%0a`` and ``%1b`` puts them into the access log; C1 controls and U+2028 are some, too."""
    hostile = "GET /x\nERROR forged: \x1b[2J\x9b31m\x7f\u2028\r"
    text = TextLines("%(levelname)s %(message)s").format(record("%s", hostile))
    assert text == r"WARNING GET /x\x0aERROR forged: \x1b[2J\x9b31m\x7f\u2028\x0d"
    line = JsonLines().format(record("%s", hostile))
    assert line.isprintable()
    assert json.loads(line)["message"] == hostile

    text = TextLines("%(message)s").format(record("broke", error=ValueError("\x1b[2J")))
    assert text == "broke\nValueError: \\x1b[2J"
