"""Sentences of the docs that name a limit say the one of the code; a code of a socket's error is in its table."""

from __future__ import annotations

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

from tailrace.bus.control import MAX_SIGNAL_BYTES
from tailrace.bus.model.codec import MAX_META_BYTES
from tailrace.bus.model.submission import MAX_INPUT_BYTES
from tailrace.gateway.asgi.arrivals import MAX_HEAD_BYTES, MAX_PIPELINED
from tailrace.gateway.asgi.frame_budget import FRAMES_BURST, FRAMES_PER_SECOND, MAX_FRAGMENTS
from tailrace.gateway.auth.revocations import MAX_OF_TENANT
from tailrace.gateway.limits.settings import LimitSettings
from tailrace.gateway.limits.sockets import MAX_FRAME_BYTES, MAX_MALFORMED, MAX_READING, PONG_SECONDS
from tailrace.workers.definition.answer_check import PROCESSOR_SECONDS

ROOT = Path(__file__).parents[3]
KIB = 1024
SUBSCRIPTIONS = LimitSettings.model_fields["max_subscriptions"].default

STATEMENTS = [
    ("websocket", f"A frame from a client has at most {MAX_FRAME_BYTES // KIB} KiB"),
    ("websocket", f"may send {FRAMES_PER_SECOND:g} frames a second"),
    ("websocket", f"{FRAMES_BURST:,} at once"),
    ("websocket", f"a message of more than {MAX_FRAGMENTS:,} fragments"),
    ("websocket", f"{MAX_MALFORMED} frames in a row that were not valid ops"),
    ("websocket", f"pings unanswered for {PONG_SECONDS:g} s"),
    ("websocket", f"A socket has at most {SUBSCRIPTIONS} subscriptions"),
    ("websocket", {4: "for no more than four at a time"}[MAX_READING]),
    ("websocket", f"at most {MAX_SIGNAL_BYTES // KIB} KiB of `data`"),
    ("errors", f"its `meta` than {MAX_META_BYTES // KIB} KiB, or a signal than {MAX_SIGNAL_BYTES // KIB} KiB"),
    ("errors", f"the input has more than {MAX_INPUT_BYTES // KIB} KiB"),
    ("errors", f"the head has more than {MAX_HEAD_BYTES // KIB} KiB"),
    ("running", f"at most {MAX_HEAD_BYTES // KIB} KiB of it, else 431"),
    ("security", f"`TAILRACE_HEAD_SECONDS` and {MAX_HEAD_BYTES // KIB} KiB"),
    ("security", f"At most {MAX_PIPELINED} requests may wait"),
    ("security", f"A tenant may have {MAX_OF_TENANT:,} of them"),
    ("pipelines", f"{PROCESSOR_SECONDS} s of processor time"),
]


@pytest.mark.parametrize(("page", "statement"), STATEMENTS)
def test_attack_69_a_limit_that_a_page_names_is_that_of_the_code(page: str, statement: str) -> None:
    text = " ".join((ROOT / f"docs/{page}.md").read_text().split())
    assert statement in text


def test_attack_69_each_error_of_a_socket_is_in_its_table_and_no_other() -> None:
    rows = re.findall(r"^\| ((?:`[a-z_]+` ?)+) \|", (ROOT / "docs/websocket.md").read_text(), re.MULTILINE)
    told = set(chain.from_iterable(re.findall(r"`([a-z_]+)`", row) for row in rows))
    made = set(
        chain.from_iterable(op_errors_in(path.read_text()) for path in (ROOT / "gateway/streams").glob("socket*.py"))
    )
    assert made - {"frame_too_large"} <= told, "closed with 1009 before it can be answered"
    assert not {"started", "dead_letter_unknown", "execution_sound"} & told


def op_errors_in(source: str) -> list[str]:
    return [
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "OpError"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ]
