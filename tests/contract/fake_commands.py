"""fakeredis as ``Commands``: raw replies, no server. It has no CLIENT TRACKING, so its tail is the blocking one."""

from __future__ import annotations

import asyncio
from typing import Any

from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from tailrace.bus.errors import ConnectionLostError, ReplyError


class FakeCommands:
    def __init__(self, server: FakeServer | None = None) -> None:
        self.server = server or FakeServer()
        self._client = FakeRedis(server=self.server, protocol=3)
        # redis-py would turn replies into its own shapes.
        self._client.response_callbacks.clear()
        self._turn = asyncio.Lock()

    async def command(self, *command: bytes | str | float) -> Any:
        if command[0] == "MEMORY":
            raise AssertionError("fakeredis knows no MEMORY USAGE; keep below the bound in bytes")
        # One connection, as a server would have it: commands run in the order in which they came.
        async with self._turn:
            return await self._run(command)

    async def _run(self, command: tuple[bytes | str | float, ...]) -> Any:
        try:
            reply = await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
            # It answers everything else in RESP3.
            return dict(zip(reply[::2], reply[1::2], strict=True)) if command[:2] == ("XINFO", "STREAM") else reply
        except NoScriptError as error:
            # redis-py takes the first word off.
            raise ReplyError(f"NOSCRIPT {error}") from None
        except RedisConnectionError as error:
            raise ConnectionLostError(str(error)) from None
        except RedisError as error:
            raise ReplyError(str(error)) from None

    async def aclose(self) -> None:
        await self._client.aclose()
