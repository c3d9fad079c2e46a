"""What a publisher holds until the log has it: bounded, in order, adjacent tokens merged. Pure."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tailrace.bus.model.codec import encode
from tailrace.bus.model.event import TOKEN, Event

# A viewer sees text in digestible pieces.
MAX_MERGED_CHARS: Final = 4096
# What a character takes in JSON at most: a control character is written as \u0000.
_MOST_BYTES_A_CHAR: Final = 6
# {"text":""}, with room to spare.
_TOKEN_FRAME_BYTES: Final = 64
_SURROGATE = re.compile("[\ud800-\udfff]")
# Lengths of field names, separators and ids: what an entry takes beside its data.
_OVERHEAD_BYTES: Final = 96


@dataclass(slots=True)
class Pending:
    """One event of the outbox; ``texts`` holds the pieces of a token that may still grow."""

    fields: list[bytes]
    size_bytes: int
    step: str | None = None
    meta: dict[str, Any] | None = None
    ts: str = ""
    texts: list[str] | None = None
    chars: int = 0


@dataclass(slots=True)
class Outbox:
    """Counts what is waiting; ``full`` says that producers have to wait.

    Taking gives the oldest, at most ``batch_events`` and ``batch_bytes`` of them; what was taken stays counted until
    ``confirm``, because it is not in the log yet. ``meta`` is what every event carries, beside its own.
    """

    max_events: int
    max_bytes: int
    batch_events: int = 512
    batch_bytes: int = 1024 * 1024
    limit_bytes: int = 256 * 1024
    meta: dict[str, Any] | None = None
    waiting: deque[Pending] = field(default_factory=deque)
    size_bytes: int = 0
    held_events: int = 0
    only_tokens: bool = True

    @property
    def full(self) -> bool:
        return self.held_events >= self.max_events or self.size_bytes >= self.max_bytes

    def add(self, event: Event, ts: str) -> bool:
        """Take an event; True when it was merged into the token before it. Raises InvalidEventError."""
        text = _token_text(event)
        if text is not None and self._merge(event, text):
            return True
        fields = encode(self._with_meta(event), ts=ts, limit_bytes=self.limit_bytes)
        size = _OVERHEAD_BYTES + sum(map(len, fields))
        pending = Pending(fields, size)
        if text is not None:
            pending.step, pending.ts = event.step, event.ts or ts
            pending.meta = None if event.meta is None else dict(event.meta)
            pending.texts, pending.chars = [text], len(text)
        else:
            self.only_tokens = False
        self.waiting.append(pending)
        self.held_events += 1
        self.size_bytes += size
        return False

    def take(self) -> list[Pending]:
        batch: list[Pending] = []
        size = 0
        while self.waiting and len(batch) < self.batch_events:
            size += self.waiting[0].size_bytes
            if batch and size > self.batch_bytes:
                break
            batch.append(self._sealed(self.waiting.popleft()))
        if not self.waiting:
            self.only_tokens = True
        return batch

    def confirm(self, batch: list[Pending]) -> None:
        self.held_events -= len(batch)
        self.size_bytes -= sum(pending.size_bytes for pending in batch)

    def _merge(self, event: Event, text: str) -> bool:
        last = self.waiting[-1] if self.waiting else None
        if last is None or last.texts is None or last.step != event.step or last.meta != event.meta:
            return False
        # A piece without text counts too: what is held must be bounded.
        chars = len(text) or 1
        if last.chars + chars > min(MAX_MERGED_CHARS, (self.limit_bytes - _TOKEN_FRAME_BYTES) // _MOST_BYTES_A_CHAR):
            return False
        last.texts.append(text)
        last.chars += chars
        last.size_bytes += _MOST_BYTES_A_CHAR * chars
        self.size_bytes += _MOST_BYTES_A_CHAR * chars
        return True

    def _with_meta(self, event: Event) -> Event:
        if self.meta is None:
            return event
        return replace(event, meta=self.meta if event.meta is None else {**self.meta, **event.meta})

    def _sealed(self, pending: Pending) -> Pending:
        if pending.texts is not None and len(pending.texts) > 1:
            merged = Event(TOKEN, {"text": "".join(pending.texts)}, pending.step, pending.ts, pending.meta)
            pending.fields = encode(self._with_meta(merged), ts=pending.ts, limit_bytes=self.limit_bytes)
        pending.texts = None
        return pending


def _token_text(event: Event) -> str | None:
    """The text of a token that may merge: it says nothing but text."""
    if event.type != TOKEN or not isinstance(event.data, dict) or len(event.data) != 1:
        return None
    text = event.data.get("text")
    if not isinstance(text, str) or len(text) >= MAX_MERGED_CHARS:
        return None
    # Half a surrogate pair has no UTF-8 form: refused when it is emitted, not found when the pieces are sealed.
    return None if _SURROGATE.search(text) else text
