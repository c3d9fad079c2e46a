"""A model of one log as Redis and append.lua keep it, small enough to be believed. tests/contract holds both to it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from tailrace.bus.errors import ReplyError
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.state import STATE_FIELDS


@dataclass(frozen=True, slots=True)
class Written:
    """An entry that was once in the log; ``serial`` counts all that ever were."""

    serial: int
    cursor: Cursor
    ours: bool

    def raw(self) -> list[Any]:
        return [self.cursor.encode(), [b"t", b"a", b"d", b"%d" % self.serial]]


@dataclass
class State:
    n: int
    ms: int
    seq: int


@dataclass
class Stored:
    """What a flush, a failover or an eviction can take away."""

    entries: list[Written] = field(default_factory=list)
    last_id: Cursor = START
    entries_added: int = 0
    state: State | None = None


class ModelLog:
    """Runs the commands that readers use; writes by methods."""

    def __init__(self) -> None:
        self.stored = Stored()
        self.history: list[Written] = []
        self.clock_ms = 1_000_000
        self._seq = 0
        self._replica = Stored()

    @property
    def entries(self) -> list[Written]:
        return self.stored.entries

    # Writing.

    def append(self, count: int) -> None:
        """As append.lua does, for one producer that goes on counting whatever happens to the server."""
        stored = self.stored
        state = stored.state
        first = self._seq + 1
        self._seq += count
        ms = max(self.clock_ms, state.ms if state else 0)
        if state is not None:
            n, lost = state.n, first > state.seq + 1
        elif stored.entries:
            n = stored.entries[-1].cursor.n
            lost = n == 0 and first > 1
        else:
            n, lost = 0, first > 1
        n += lost
        for index in range(count):
            n += 1
            if index == 0 and Cursor(ms, n) <= stored.last_id:
                ms = stored.last_id.ms + (stored.last_id.n >= n)
            self._write(Cursor(ms, n), ours=True)
        stored.state = State(n, ms, self._seq)

    def plain_xadd(self) -> None:
        last = self.stored.last_id
        self._write(Cursor(self.clock_ms, 0) if self.clock_ms > last.ms else Cursor(last.ms, last.n + 1), ours=False)

    def trim(self, count: int) -> None:
        del self.entries[:count]

    def delete(self, index: int) -> None:
        del self.entries[index]

    def flush(self) -> None:
        self.stored = Stored()
        self.replicate()

    def delete_log(self) -> None:
        self.stored = Stored(state=self.stored.state)
        self.replicate()

    def evict_state(self) -> None:
        self.stored.state = None

    def replicate(self) -> None:
        self._replica = deepcopy(self.stored)

    def fail_over(self) -> None:
        self.stored = deepcopy(self._replica)

    def _write(self, cursor: Cursor, *, ours: bool) -> None:
        written = Written(len(self.history), cursor, ours)
        self.history.append(written)
        self.entries.append(written)
        self.stored.last_id = cursor
        self.stored.entries_added += 1

    # bus.line.Commands

    async def command(self, *command: bytes | str | float) -> Any:
        match command:
            case ["XRANGE", _, start, "+", "COUNT", int(count)]:
                cursor = START if start == "-" else _cursor(str(start))
                return [written.raw() for written in self.entries if written.cursor >= cursor][:count]
            case ["XREVRANGE", _, "+", "-", "COUNT", 1]:
                return [written.raw() for written in self.entries[-1:]]
            case ["XINFO", "STREAM", _]:
                return self._info()
            case ["HMGET", _, *names] if names == list(STATE_FIELDS):
                known = {"n": b"%d" % self.stored.state.n} if self.stored.state else {}
                return [known.get(name) for name in STATE_FIELDS]
        raise AssertionError(f"the model does not know {command}")

    async def aclose(self) -> None:
        pass

    def after(self, cursor: Cursor) -> list[Any]:
        """What XREAD gives."""
        return [written.raw() for written in self.entries if written.cursor > cursor]

    def _info(self) -> dict[bytes, Any]:
        if not self.stored.entries_added:
            raise ReplyError("ERR no such key")
        return {
            b"length": len(self.entries),
            b"entries-added": self.stored.entries_added,
            b"first-entry": self.entries[0].raw() if self.entries else None,
            b"last-entry": self.entries[-1].raw() if self.entries else None,
        }


def _cursor(text: str) -> Cursor:
    ms, _, n = text.partition("-")
    return Cursor(int(ms), int(n))
