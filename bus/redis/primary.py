"""The primary that Sentinels name: found when a connection is made, and left when they replace it.

Sentinel promotes a replica first, and demotes the old primary seconds later: what that takes meanwhile is lost. So all
connections to it are left as soon as a Sentinel says that it is about to promote another, and none is made until it
says which. See https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#pubsub-messages.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tailrace.bus.model.counters import Counters

logger = logging.getLogger(__name__)

Address = tuple[str, int]
DialAt = Callable[[Address], Awaitable[AbstractConnection]]

# Longer than it takes a Sentinel to see that a replica was promoted: then it is asked as if nothing had been said.
MOVING_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 1.0
_PROMOTING: Final = "+failover-state-send-slaveof-noone"
_PROMOTED: Final = "+promoted-slave"
_SWITCHED: Final = "+switch-master"
_ABORTED: Final = "-failover-abort-*"


class Leaver(Protocol):
    def leave_server(self, reason: str) -> None:
        """Make a new connection; called in its own loop."""


class Primary:
    """Dials the primary; for connections of any loop. ``watch`` runs in one of them, as long as any is used."""

    def __init__(
        self, service: str, sentinels: tuple[Address, ...], dial_at: DialAt, *, timeout_seconds: float
    ) -> None:
        self._service = service
        self._sentinels = sentinels
        self._dial_at = dial_at
        self._timeout_seconds = timeout_seconds
        self._leavers: WeakKeyDictionary[Leaver, asyncio.AbstractEventLoop] = WeakKeyDictionary()
        self._lock = threading.Lock()
        # Where it is, since a Sentinel said so; others may say for a while what was.
        self._promoted: Address | None = None
        self._known: Address | None = None
        # Not done while a replica is being promoted.
        self._settled: Future[None] = Future()
        self._settled.set_result(None)

    async def __call__(self) -> AbstractConnection:
        """Raises RedisError, OSError."""
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._settled)), MOVING_SECONDS)
        promoted = self._promoted
        if promoted is not None:
            try:
                return await self._dial(promoted)
            except (RedisError, OSError) as error:
                logger.debug("the promoted primary %s:%d does not answer: %s", *promoted, error)
                self._promoted = None
        return await self._dial(await self._discover())

    def join(self, leaver: Leaver) -> None:
        """Have it told when the primary is another; as long as it lives."""
        with self._lock:
            self._leavers[leaver] = asyncio.get_running_loop()

    async def watch(self, counters: Counters) -> None:
        """Hear what the Sentinels say, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for address in self._sentinels:
                group.create_task(self._hear(address, counters))

    async def _dial(self, address: Address) -> AbstractConnection:
        connection = await self._dial_at(address)
        try:
            await connection.send_command("ROLE")
            role = (await connection.read_response())[0]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if role != b"master":
            await connection.disconnect(nowait=True)
            raise RedisConnectionError(f"{address[0]}:{address[1]} is no primary any more, or not yet")
        self._known = address
        return connection

    async def _discover(self) -> Address:
        sentinels = Sentinel(list(self._sentinels), socket_timeout=self._timeout_seconds)  # type: ignore[no-untyped-call]
        try:
            host, port = await sentinels.discover_master(self._service)
        finally:
            for sentinel in sentinels.sentinels:
                await sentinel.aclose()
        return host, port

    async def _hear(self, address: Address, counters: Counters) -> None:
        host, port = address
        while True:
            sentinel = Redis(host=host, port=port, socket_timeout=self._timeout_seconds, decode_responses=True)
            try:
                async with sentinel, sentinel.pubsub() as said:
                    await said.subscribe(_PROMOTING, _PROMOTED, _SWITCHED)
                    await said.psubscribe(_ABORTED)
                    await self._look(sentinel, counters)
                    while True:
                        message = await said.get_message(ignore_subscribe_messages=True, timeout=AGAIN_SECONDS)
                        if message is not None:
                            self._take(message["channel"], message["data"].split(), counters)
            except (RedisError, OSError) as error:
                logger.debug("sentinel %s:%d: %s; asking again", host, port, error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _look(self, sentinel: Redis, counters: Counters) -> None:
        """What it may have said before it was heard."""
        found: Any = await sentinel.execute_command(  # type: ignore[no-untyped-call]
            "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service
        )
        if found and self._known is not None and self._promoted is None:
            self._moved((found[0], int(found[1])), counters)

    def _take(self, channel: str, words: list[str], counters: Counters) -> None:
        match channel, words:
            case "+switch-master", [self._service, _, _, host, port]:
                self._moved((host, int(port)), counters)
            case "+promoted-slave", [_, _, host, port, "@", self._service, *_]:
                self._moved((host, int(port)), counters)
            case "+failover-state-send-slaveof-noone", [_, _, _, _, "@", self._service, *_]:
                if self._settled.done():
                    self._settled = Future()
                    self._leave("a Sentinel is about to promote another primary")
            case _, [_, self._service, *_] if channel.startswith("-failover-abort"):
                self._settle()

    def _moved(self, address: Address, counters: Counters) -> None:
        self._promoted = address
        if address != self._known:
            counters.add("primary_switches")
            logger.warning("the primary is %s:%d now; all connections follow it", *address)
            self._leave("the primary is another one now")
            self._known = address
        self._settle()

    def _settle(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)

    def _leave(self, reason: str) -> None:
        with self._lock:
            leavers = list(self._leavers.items())
        for leaver, loop in leavers:
            with suppress(RuntimeError):
                # Its loop may have ended.
                loop.call_soon_threadsafe(leaver.leave_server, reason)
