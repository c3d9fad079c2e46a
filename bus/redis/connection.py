"""One connection to Redis, made by redis-py and spoken by us.

redis-py knows how to get there (URL, TLS, AUTH, Sentinel, database, RESP3). Once connected, its transport is handed
to this protocol: commands are pipelined in the order they are sent, written once a turn of the loop, and their
replies are read straight from hiredis. No reply is ever tied to the task that asked for it: a cancelled request
leaves its reply to be read and thrown away, so the connection cannot get out of step.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from tailrace.bus.errors import BusUnavailableError, ConnectionLostError, ReplyError
from tailrace.bus.redis.redis_py import forget_transport, has_ended, take_transport

Push = Callable[[list[Any]], None]
# Called with the raw reply, or the ReplyError or ConnectionLostError in its place; must not raise.
Answer = Callable[[Any], None]
# Makes a connection of redis-py and connects it.
Dial = Callable[[], Awaitable[AbstractConnection]]

PING_AFTER_SECONDS: Final = 2.0
SILENT_AFTER_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 0.5
# hiredis would say False, which is also a reply of RESP3.
_NOTHING_YET: Final = object()


def _ignore_push(_: list[Any]) -> None:
    pass


class Connection(asyncio.Protocol):
    """A pipelined connection. Ends once, for a reason; ``lost`` then holds it.

    A peer that falls silent while replies are due is given up after ``SILENT_AFTER_SECONDS``. One that is not asked
    anything is sent a PING, and the silence before it counts: a half-open socket is found in seconds either way.
    """

    def __init__(self, connection: AbstractConnection, on_push: Push) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._on_push = on_push
        # Kept alive: its stream writer would close the transport when collected.
        self._connection = connection
        self._transport = take_transport(connection)
        self._reader = hiredis.Reader(
            protocolError=ConnectionLostError, replyError=ReplyError, notEnoughData=_NOTHING_YET
        )
        self._waiting: deque[Answer] = deque()
        self._ended = False
        self.received_bytes = 0
        self._outgoing: list[bytes] = []
        self._last_heard = loop.time()
        self.lost: asyncio.Future[ConnectionLostError] = loop.create_future()
        self._transport.set_protocol(self)
        self._watchdog = loop.call_later(WATCH_SECONDS, self._watch)

    @classmethod
    async def open(cls, dial: Dial, on_push: Push = _ignore_push, *, timeout_seconds: float = 5.0) -> Connection:
        """Connect. Raises BusUnavailableError with the reason, which is a ReplyError when Redis itself refused."""
        # In a task of its own: a cancellation that meets redis-py in the wrong moment would be swallowed there.
        connecting = asyncio.ensure_future(dial())
        try:
            await asyncio.wait([connecting], timeout=timeout_seconds)
        except asyncio.CancelledError:
            # It may be made already, in the turn of the loop in which we are cancelled.
            _give_up(connecting)
            raise
        if not connecting.done():
            _give_up(connecting)
            raise BusUnavailableError(f"no answer from Redis within {timeout_seconds:g} s")
        try:
            connection = connecting.result()
        except (RedisError, OSError) as error:
            # What goes wrong in its handshake, redis-py wraps once more.
            for refusal in (error, error.__cause__):
                if isinstance(refusal, (AuthenticationError, BusyLoadingError, ResponseError)):
                    raise ReplyError(f"{refusal.status_code or ''} {refusal}".strip()) from error
            raise BusUnavailableError(str(error) or type(error).__name__) from error
        if has_ended(connection):
            forget_transport(connection)
            raise BusUnavailableError("connection to Redis lost: closed by the server")
        return cls(connection, on_push)

    def send(self, *command: bytes | str | float) -> asyncio.Future[Any]:
        """Queue one command; the future gets its raw reply, ReplyError or ConnectionLostError."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.request(partial(_settle, future), *command)
        return future

    def request(self, answer: Answer, *command: bytes | str | float) -> None:
        """Queue one command; ``answer`` is called with its reply, or the error, as soon as it is read."""
        if self.lost.done():
            answer(ConnectionLostError(str(self.lost.result())))
            return
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        if not self._waiting:
            self._last_heard = self._loop.time()
        self._outgoing.append(hiredis.pack_command(command))  # type: ignore[arg-type]
        self._waiting.append(answer)

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def close(self, reason: str = "closed by us") -> None:
        self._end(ConnectionLostError(reason))

    def retire(self, reason: str) -> None:
        """Take no more commands; close when what was asked before has been answered."""
        if self.lost.done():
            return
        self.lost.set_result(ConnectionLostError(reason))
        if not self._waiting:
            self._end(ConnectionLostError(reason))

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._last_heard = self._loop.time()
        self.received_bytes += len(data)
        waiting, gets = self._waiting, self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := gets()) is not _NOTHING_YET:
                if type(reply) is hiredis.PushNotification:
                    self._on_push(reply)
                elif waiting:
                    waiting.popleft()(reply)
                else:
                    raise ConnectionLostError("Redis answered more than it was asked")  # noqa: TRY301 - as the reader does
        except ConnectionLostError as error:
            self._end(error)
        if self.lost.done() and not waiting:
            self.close("all answers of a retired connection are read")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionLostError(f"connection to Redis lost: {exc or 'closed by the server'}"))

    def eof_received(self) -> None:
        pass

    def _flush(self) -> None:
        if self._outgoing and not self._ended:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _watch(self) -> None:
        if self._ended:
            return
        silent_seconds = self._loop.time() - self._last_heard
        if self._waiting and silent_seconds > SILENT_AFTER_SECONDS:
            self._end(ConnectionLostError(f"Redis has not answered for {silent_seconds:.1f} s"))
            return
        if not (self._waiting or self.lost.done()) and silent_seconds > PING_AFTER_SECONDS:
            self.send(b"PING").add_done_callback(_retrieve)
            self._last_heard -= PING_AFTER_SECONDS
        self._watchdog = self._loop.call_later(WATCH_SECONDS, self._watch)

    def _end(self, reason: ConnectionLostError) -> None:
        if self._ended:
            return
        self._ended = True
        if not self.lost.done():
            self.lost.set_result(reason)
        self._watchdog.cancel()
        self._transport.abort()
        forget_transport(self._connection)
        self._outgoing.clear()
        while self._waiting:
            self._waiting.popleft()(ConnectionLostError(str(reason)))


def _give_up(connecting: asyncio.Future[AbstractConnection]) -> None:
    if connecting.done():
        _close_late(connecting)
    else:
        connecting.cancel()
        connecting.add_done_callback(_close_late)


def _close_late(connecting: asyncio.Future[AbstractConnection]) -> None:
    """Close a connection that was made after its caller gave up."""
    if not connecting.cancelled() and connecting.exception() is None:
        forget_transport(connecting.result())


def _settle(future: asyncio.Future[Any], reply: Any) -> None:
    if future.done():
        return
    if isinstance(reply, BusUnavailableError):
        future.set_exception(reply)
    else:
        future.set_result(reply)


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
