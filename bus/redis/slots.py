"""Which node serves which key. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.crc import key_slot

Address = tuple[str, int]
SLOTS: Final = 16384
# Where a command's first key stands; one is the rule.
_KEY_INDEX: Final = {"EVAL": 3, "EVALSHA": 3, "XINFO": 2, "XGROUP": 2, "OBJECT": 2, "MEMORY": 2}
_KEYLESS: Final = frozenset({"PING", "CLIENT", "INFO", "CONFIG", "CLUSTER", "SCRIPT", "TIME", "ACL", "HELLO"})


@dataclass(frozen=True, slots=True)
class SlotMap:
    """Ranges of slots, by their first slot, each with the address of its primary."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    owners: tuple[Address, ...]

    def owner(self, slot: int) -> Address | None:
        index = bisect_right(self.starts, slot) - 1
        return self.owners[index] if index >= 0 and slot <= self.ends[index] else None

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset(self.owners)


def slot_map(reply: Sequence[Any], asked: Address) -> SlotMap:
    """Read CLUSTER SLOTS; a node that does not know its own host is the one that was asked."""
    rows = sorted((int(start), int(end), primary) for start, end, primary, *_ in reply)
    return SlotMap(
        tuple(start for start, _, _ in rows),
        tuple(end for _, end, _ in rows),
        tuple(((primary[0] or b"").decode() or asked[0], int(primary[1])) for _, _, primary in rows),
    )


def slot_of(command: Sequence[bytes | str | float]) -> int | None:
    """The slot of a command's keys, which are all of one execution or queue; None when it has none."""
    name = str(command[0]).upper()
    if name in _KEYLESS:
        return None
    if name in {"XREAD", "XREADGROUP"}:
        words = [part.upper() if isinstance(part, str) else part for part in command]
        # Past the names of group and consumer, which may be any word.
        index = words.index("STREAMS", 4 if name == "XREADGROUP" else 1) + 1
    else:
        index = _KEY_INDEX.get(name, 1)
    return slot_of_key(command[index])


def slot_of_key(key: bytes | str | float) -> int:
    return int(key_slot(key if isinstance(key, bytes) else str(key).encode()))


def redirection(message: str, asked: Address) -> Address:
    """Where MOVED and ASK send one: ``MOVED 3999 127.0.0.1:6381``; no host means the host that was asked."""
    host, _, port = message.split()[2].rpartition(":")
    return (host or asked[0], int(port))
