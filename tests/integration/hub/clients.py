"""Who is connected to Redis, and what Redis has sent him."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from tailrace.bus import Bus


@dataclass(frozen=True, slots=True)
class Client:
    id: str
    tracking: bool
    blocked: bool
    last_command: str
    sent_bytes: int

    @classmethod
    def read(cls, line: str) -> Self:
        fields = dict(field.split("=", 1) for field in line.split(" ") if "=" in field)
        flags = fields["flags"]
        return cls(fields["id"], "t" in flags, "b" in flags, fields["cmd"], int(fields["tot-net-out"]))


async def clients(bus: Bus) -> dict[str, Client]:
    """By id; ours among them."""
    listed: bytes = await bus.commands.command("CLIENT", "LIST")
    found = [Client.read(line) for line in bytes(listed).decode().splitlines() if line]
    return {client.id: client for client in found}


async def clients_of_others(bus: Bus) -> dict[str, Client]:
    ours = str(await bus.commands.command("CLIENT", "ID"))
    return {client.id: client for client in (await clients(bus)).values() if client.id != ours}
