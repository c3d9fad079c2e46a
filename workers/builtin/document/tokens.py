from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(r"\S{1,64}\s{0,64}|\s{1,64}")


def tokens(text: str) -> Iterator[str]:
    """`text` in small pieces, a word with the white space after it each, as a language model gives it out.

    Put together again they are `text`. No piece is longer than 128 characters.
    """
    return (match[0] for match in _TOKEN.finditer(text))
