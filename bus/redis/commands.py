"""Running commands on Redis: what every room above ``redis`` is given, whatever stands behind it."""

from __future__ import annotations

from typing import Any, Protocol


class Commands(Protocol):
    """Runs commands and gives raw replies (RESP3: bytes, ints, lists, dicts). Safe to share between tasks.

    Promises:

    - Every reply belongs to its command, also when a caller was cancelled while waiting for its own.
    - ReplyError: Redis refused the command. ConnectionLostError: whether it ran is not known.
      BusUnavailableError: it did not run. BusClosedError: the bus is closed, trying again is of no use.

    Does not promise to retry: ``retrying`` does, for what is safe to send twice.
    """

    async def command(self, *command: bytes | str | float) -> Any: ...

    async def aclose(self) -> None: ...


class Line(Commands, Protocol):
    """A connection, and so a client to Redis: what it wrote can be waited for."""

    async def replicated(self, replicas: int, timeout_ms: int, *command: bytes | str | float) -> tuple[Any, int]:
        """Run a command, then wait on the same connection until so many replicas have what it wrote.

        Gives the reply, and how many have it when ``timeout_ms`` are over. Meanwhile nothing else runs on it.
        """


async def server_ms(commands: Commands) -> int:
    """Redis' clock, in milliseconds since 1970. Raises BusUnavailableError."""
    seconds, micros = await commands.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000
