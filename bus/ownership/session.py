"""A process's session: a connection to Redis that is there for as long as the process is.

Redis loses the connection of a killed process at once, so that another can take over within two seconds, though the
lease is long. A connection that is still there, of a process that is frozen or unreachable, says nothing: then the
lease must run out. Neither does a session registered with a server that was restarted or replaced: that one lost all
connections at once.
Where CLIENT is refused, only leases count. On a cluster the node that has the list of sessions is the server.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from tailrace.bus.errors import BusUnavailableError, ConnectionLostError, InvalidExecutionIdError, ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.event import check_execution_id
from tailrace.bus.model.fields import number
from tailrace.bus.model.keys import Keys
from tailrace.bus.ownership.gate import DISCONNECTS, RECONNECTED_SECONDS
from tailrace.bus.redis.commands import Commands, server_ms
from tailrace.bus.redis.connection import Connection
from tailrace.bus.redis.script import EXPIRING, SCRIPT_CHUNK
from tailrace.bus.redis.supervised import WRONG_SERVER_CODES

logger = logging.getLogger(__name__)

# A connection that is gone at two looks so far apart is not about to come back: reconnecting takes a tenth of it.
CONFIRM_MS: Final = 700
# One look serves all healers of all processes for so long.
LOOK_MS: Final = 400
LIST_CHUNK: Final = 500
STALE_CHUNK: Final = 50
_LABEL: Final = "tailrace-session"


class Session:
    """The one of this process. Used in one event loop, that of the connection."""

    def __init__(self, name: str, keys: Keys, counters: Counters, *, keep_seconds: int) -> None:
        self.name = name
        self._keys = keys
        self._counters = counters
        self._keep_seconds = keep_seconds
        self._registering: set[asyncio.Task[None]] = set()
        self._refused = False

    def connected(self, connection: Connection) -> None:
        """Register a connection that was just made."""
        task = asyncio.get_running_loop().create_task(self._register(connection), name="session:register")
        self._registering.add(task)
        task.add_done_callback(self._registering.discard)

    async def hold(self, commands: Commands, execution_ids: Iterable[str]) -> None:
        """Note what this process runs. Raises BusUnavailableError."""
        key, ids = self._keys.session_executions(self.name), list(execution_ids)
        chunks = (ids[start : start + SCRIPT_CHUNK] for start in range(0, len(ids), SCRIPT_CHUNK))
        await asyncio.gather(*(EXPIRING.run(commands, (key,), self._keep_seconds, "SADD", *each) for each in chunks))

    async def let_go(self, commands: Commands, execution_ids: Iterable[str]) -> None:
        """Raises BusUnavailableError."""
        await commands.command("SREM", self._keys.session_executions(self.name), *execution_ids)

    async def end(self, commands: Commands) -> None:
        """Raises BusUnavailableError."""
        for task in list(self._registering):
            task.cancel()
        await asyncio.gather(
            commands.command("HDEL", self._keys.sessions(), self.name),
            commands.command("DEL", self._keys.session_executions(self.name)),
        )

    async def _register(self, connection: Connection) -> None:
        try:
            _, client_id, info = await asyncio.gather(
                connection.send("CLIENT", "SETNAME", f"{_LABEL}:{self.name}"),
                connection.send("CLIENT", "ID"),
                connection.send("INFO", "server"),
            )
            key = self._keys.sessions()
            await asyncio.gather(
                connection.send("HSET", key, self.name, f"{int(client_id)} {_run_id(info)}"),
                connection.send("EXPIRE", key, self._keep_seconds),
            )
        except ReplyError as error:
            if error.code in WRONG_SERVER_CODES or error.code in {"MOVED", "ASK", "TRYAGAIN"}:
                # Registered with the next connection, which is to the right one.
                logger.debug("session %s is not registered: %s", self.name, error)
            elif not self._refused:
                self._refused = True
                self._counters.add("session_fallbacks")
                logger.warning(
                    "sessions cannot be used (%s); a dead process is only noticed when its leases expire", error
                )
        except (BusUnavailableError, ConnectionLostError) as error:
            # It registers again with the next connection.
            logger.debug("session %s is not registered: %s", self.name, error)


class Sessions:
    """Those of all processes, as healers look at them. Every method raises BusUnavailableError."""

    def __init__(self, commands: Commands, server: Commands, keys: Keys, counters: Counters) -> None:
        """``server`` asks the one that has the sessions, with which they are registered."""
        self._commands = commands
        self._server = server
        self._keys = keys
        self._counters = counters
        self._refused = False
        self._disconnects = 0
        self._wait_until = 0.0

    async def find_dead(self) -> dict[str, list[str]]:
        """Sessions that are gone, and the executions that they ran; {} when another healer has just looked."""
        if self._refused or self._were_disconnected():
            return {}
        if not await self._commands.command("SET", f"{self._keys.sessions()}:look", "1", "NX", "PX", LOOK_MS):
            return {}
        raw, missing = await asyncio.gather(
            self._commands.command("HGETALL", self._keys.sessions()),
            self._commands.command("HGETALL", self._keys.missing_sessions()),
        )
        registrations, suspects = _texts(raw), _texts(missing)
        if not registrations:
            return {}
        try:
            alive = await self._alive(each.partition(" ")[0] for each in registrations.values())
            # Asked last: one that has been replaced since lists nobody who registered with it.
            server = _run_id(await self._server.command("INFO", "server"))
        except ReplyError as error:
            self._refused = True
            self._counters.add("session_fallbacks")
            logger.warning(
                "CLIENT LIST or INFO is refused (%s); a dead process is only noticed when its leases expire", error
            )
            return {}
        registered = {
            name: client_id
            for name, (client_id, _, run_id) in ((name, each.partition(" ")) for name, each in registrations.items())
            if run_id == server
        }
        now_ms = await server_ms(self._commands)
        dead: list[str] = []
        changed: dict[str, str] = {}
        for name, client_id in registered.items():
            if alive.get(client_id) == f"{_LABEL}:{name}":
                continue
            suspect, _, since = suspects.get(name, "").partition(" ")
            if suspect != client_id:
                changed[name] = f"{client_id} {now_ms}"
            elif (suspected := number(since)) is not None and now_ms - suspected >= CONFIRM_MS:
                dead.append(name)
        back = [name for name in suspects if name not in registered or alive.get(registered[name]) is not None]
        if changed:
            await self._commands.command(
                "HSET", self._keys.missing_sessions(), *(x for pair in changed.items() for x in pair)
            )
        if back:
            await self._commands.command("HDEL", self._keys.missing_sessions(), *back)
        await self._forget_stale([name for name in registrations if name not in registered][:STALE_CHUNK])
        return {name: await self._executions_of(name) for name in dead}

    async def _forget_stale(self, names: list[str]) -> None:
        """Registered with a server that is gone: who lives registers again, and who ran nothing is not missed."""
        kept = await asyncio.gather(
            *(self._commands.command("EXISTS", self._keys.session_executions(each)) for each in names)
        )
        await asyncio.gather(*(self.forget(name) for name, exists in zip(names, kept, strict=True) if not exists))

    def _were_disconnected(self) -> bool:
        """Others may have been as we were, and take as long as anybody may to connect again."""
        disconnects = sum(self._counters[name] for name in DISCONNECTS)
        if disconnects != self._disconnects:
            self._disconnects = disconnects
            self._wait_until = time.monotonic() + RECONNECTED_SECONDS
        return time.monotonic() < self._wait_until

    async def forget(self, name: str) -> None:
        await asyncio.gather(
            self._commands.command("HDEL", self._keys.sessions(), name),
            self._commands.command("HDEL", self._keys.missing_sessions(), name),
            self._commands.command("DEL", self._keys.session_executions(name)),
        )

    async def _executions_of(self, name: str) -> list[str]:
        members = await self._commands.command("SMEMBERS", self._keys.session_executions(name))
        ids = []
        for member in members:
            # A stranger's member can name no execution.
            with suppress(InvalidExecutionIdError):
                ids.append(check_execution_id(member.decode(errors="replace")))
        return sorted(ids)

    async def _alive(self, client_ids: Iterable[str]) -> dict[str, str]:
        """Id of a connection → the name it gave itself, of those that are there."""
        ids = [client_id for client_id in client_ids if number(client_id) is not None]
        alive: dict[str, str] = {}
        for start in range(0, len(ids), LIST_CHUNK):
            text = await self._server.command("CLIENT", "LIST", "ID", *ids[start : start + LIST_CHUNK])
            for line in text.decode(errors="replace").splitlines():
                fields = dict(part.partition("=")[::2] for part in line.split(" "))
                alive[fields.get("id", "")] = fields.get("name", "")
        return alive


def _run_id(info: bytes) -> str:
    """Of the server process: another one after a restart, or on the one that was promoted."""
    return info.decode(errors="replace").partition("run_id:")[2].partition("\r")[0]


def _texts(reply: dict[bytes, bytes]) -> dict[str, str]:
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in reply.items()}
