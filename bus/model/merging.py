"""Adjacent tokens of a step as one entry, for viewers who want text and not how it was cut up. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import TOKEN

# What the text of a merged token takes at most, as JSON: a viewer sees text in digestible pieces.
MAX_MERGED_BYTES: Final = 4096
# A token that says nothing but text, as any JSON encoder writes it. What is between the quotes can be joined as it
# stands, unless it ends in half a character: the halves of a surrogate pair would become one.
_TOKEN_TEXT: Final = re.compile(rb'\s*\{\s*"text"\s*:\s*"((?:[^"\\]|\\.)*)"\s*\}\s*', re.DOTALL)
_HALF_CHARACTER: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def runs_of_tokens(entries: Iterable[Entry]) -> Iterator[Sequence[Entry]]:
    """Split entries into runs, in order; a run of several are tokens that can be merged into one."""
    run: list[Entry] = []
    size = 0
    for entry in entries:
        text = _text_of(entry)
        if run and (text is None or size + len(text) > MAX_MERGED_BYTES or _told(entry) != _told(run[0])):
            yield run
            run = []
        if text is None:
            yield (entry,)
            continue
        size = len(text) + (size if run else 0)
        run.append(entry)
    if run:
        yield run


def merged(run: Sequence[Entry]) -> Entry:
    """The last of a run of tokens, with the text of all of them."""
    if len(run) == 1:
        return run[0]
    text = b"".join([_text_of(entry) or b"" for entry in run])
    return run[-1]._replace(raw_data=b'{"text":"%b"}' % text)


def _told(entry: Entry) -> tuple[str | None, bytes | None]:
    """Whose text it is: that of two models at once must not be mixed."""
    return entry.step, entry.raw_meta


def _text_of(entry: Entry) -> bytes | None:
    if entry.type != TOKEN or entry.encoding is not None:
        return None
    found = _TOKEN_TEXT.fullmatch(entry.raw_data)
    if found is None or len(found[1]) > MAX_MERGED_BYTES or _HALF_CHARACTER.search(found[1]):
        return None
    return found[1]
