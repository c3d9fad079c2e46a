"""A connection that reconnects by itself, with backoff, until it is closed."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Final, cast

from tailrace.bus.errors import BusClosedError, BusUnavailableError, ReplyError
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.retry import Backoff
from tailrace.bus.redis.connection import Connection, Dial
from tailrace.bus.redis.primary import Primary

logger = logging.getLogger(__name__)

# Redis says with these that it is the wrong server, or not ready: a new connection may find the right one.
WRONG_SERVER_CODES: Final = frozenset({"READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED", "CLUSTERDOWN", "NOREPLICAS"})


class SupervisedConnection:
    """One supervised connection that all callers of a process share; commands are pipelined."""

    def __init__(
        self,
        dial: Dial,
        *,
        counters: Counters,
        name: str,
        on_connect: Callable[[Connection], None] | None = None,
        on_push: Callable[[list[Any]], None] | None = None,
        wait_seconds: float = 5.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._dial = dial
        self._counters = counters
        self._name = name
        self._on_connect = on_connect
        self._on_push = on_push
        self._wait_seconds = wait_seconds
        self._backoff = backoff or Backoff()
        self._connection: Connection | None = None
        # Left, with answers to come.
        self._retired: Connection | None = None
        self._connected = asyncio.Event()
        self._why_not = "not connected yet"
        self._closed = False
        self._supervisor: asyncio.Task[None] | None = None
        self._unreplicated: list[tuple[tuple[bytes | str | float, ...], asyncio.Future[tuple[Any, int]]]] = []
        self._replicating: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect once, so that a wrong address is told at start. Raises BusUnavailableError."""
        if isinstance(self._dial, Primary):
            self._dial.join(self)
        self._adopt(await self._open())
        self._supervisor = asyncio.create_task(self._supervise(), name=f"connection:{self._name}")

    async def command(self, *command: bytes | str | float) -> Any:
        connection = self._connection or await self._wait()
        try:
            return await connection.send(*command)
        except ReplyError as error:
            if error.code in WRONG_SERVER_CODES:
                self._leave(connection, f"Redis answered {error.code}")
            if error.code != "LOADING":
                raise
        # It certainly did not run, and the server will be there again: as with any outage.
        return await (await self._wait()).send(*command)

    async def replicated(self, replicas: int, timeout_ms: int, *command: bytes | str | float) -> tuple[Any, int]:
        """As ``Line`` says. What comes while one WAIT is under way shares the next."""
        answer: asyncio.Future[tuple[Any, int]] = asyncio.get_running_loop().create_future()
        self._unreplicated.append((command, answer))
        if self._replicating is None:
            self._replicating = asyncio.create_task(self._replicate(replicas, timeout_ms), name="replicating")
        return await answer

    async def _replicate(self, replicas: int, timeout_ms: int) -> None:
        while batch := self._unreplicated:
            self._unreplicated = []
            connection: Connection | None = None
            try:
                connection = self._connection or await self._wait()
                sent = [connection.send(*command) for command, _ in batch]
                *replies, waited = await asyncio.gather(
                    *sent, connection.send("WAIT", replicas, timeout_ms), return_exceptions=True
                )
            # Whatever it is, each of those who wait is told.
            except Exception as error:  # noqa: BLE001
                replies, waited = [error] * len(batch), error
            for (_, answer), reply in zip(batch, replies, strict=True):
                failure = next((each for each in (reply, waited) if isinstance(each, BaseException)), None)
                if connection is not None and isinstance(failure, ReplyError) and failure.code in WRONG_SERVER_CODES:
                    self._leave(connection, f"Redis answered {failure.code}")
                if answer.done():
                    continue
                if failure is not None:
                    answer.set_exception(failure)
                else:
                    answer.set_result((reply, int(cast("int", waited))))
        self._replicating = None

    def leave_server(self, reason: str) -> None:
        """Go on with a new connection. What was asked on this one is still answered."""
        if self._connection is not None and not self._closed:
            self._leave(self._connection, reason)

    def _leave(self, connection: Connection, reason: str) -> None:
        if connection is self._connection:
            self._connection = None
            self._connected.clear()
            self._why_not = reason
        # Others have asked on it too, and reads are answered there all the same.
        connection.retire(reason)
        self._retired = connection

    async def wait_connected(self) -> Connection:
        """Wait for a live connection, up to ``wait_seconds``. Raises BusUnavailableError, BusClosedError."""
        return self._connection or await self._wait()

    async def aclose(self) -> None:
        self._closed = True
        self._connected.set()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        for connection in (self._connection, self._retired):
            if connection is not None:
                connection.close()
        self._connection = None

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def _wait(self) -> Connection:
        if self._closed:
            raise BusClosedError("the bus is closed")
        try:
            async with asyncio.timeout(self._wait_seconds):
                while self._connection is None and not self._closed:
                    await self._connected.wait()
        except TimeoutError:
            raise BusUnavailableError(self._why_not) from None
        if self._connection is None:
            raise BusClosedError("the bus is closed")
        return self._connection

    async def _open(self) -> Connection:
        if self._on_push is None:
            return await Connection.open(self._dial)
        return await Connection.open(self._dial, self._on_push)

    def _adopt(self, connection: Connection) -> None:
        self._connection = connection
        self._connected.set()
        if self._on_connect is not None:
            self._on_connect(connection)

    async def _supervise(self) -> None:
        attempt = 0
        while True:
            if self._connection is not None:
                reason = await asyncio.shield(self._connection.lost)
                self._connection = None
                self._connected.clear()
                self._why_not = str(reason)
                self._counters.add(f"{self._name}_disconnects")
                logger.warning("%s: %s; reconnecting", self._name, reason)
                attempt = 1
            await asyncio.sleep(self._backoff.delay_seconds(attempt, random.random))
            try:
                connection = await self._open()
            except BusUnavailableError as error:
                attempt += 1
                self._why_not = str(error)
                continue
            logger.info("%s: reconnected after %d attempts", self._name, attempt)
            self._adopt(connection)
