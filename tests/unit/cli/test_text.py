from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace.cli.text.safe import one_line, paragraph, shortened


@given(st.text(alphabet=st.characters(codec=None)))
def test_no_text_can_steer_the_terminal(text: str) -> None:
    shown = one_line(text)

    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in "\u2028\u2029\u202e" for c in shown)
    shown.encode()


def test_controls_are_spelled_out() -> None:
    assert one_line("a\x1b[2Jb\nc\u202ed") == "a\\x1b[2Jb\\nc\\u202ed"


def test_a_paragraph_keeps_its_lines() -> None:
    assert paragraph("a\n\x1bb\tc") == "a\n\\x1bb\\tc"


def test_ordinary_text_of_any_language_stays() -> None:
    assert one_line("Grüße, 世界 👋") == "Grüße, 世界 👋"


def test_a_long_text_is_cut_to_its_length() -> None:
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("abcd", 4) == "abcd"
