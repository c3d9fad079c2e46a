"""What Sentinels say decides where connections go, and when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tailrace.bus.model.counters import Counters
from tailrace.bus.redis.primary import Address, Primary

pytestmark = pytest.mark.anyio

OLD: Address = ("10.0.0.1", 6379)
NEW: Address = ("10.0.0.2", 6379)
PROMOTING = ["slave", "10.0.0.2:6379", "10.0.0.2", "6379", "@", "events", "10.0.0.1", "6379"]


class FakeConnection:
    def __init__(self, address: Address, role: bytes) -> None:
        self.address = address
        self.role = role
        self.closed = False

    async def send_command(self, command: str) -> None:
        assert command == "ROLE"

    async def read_response(self) -> list[Any]:
        return [self.role]

    async def disconnect(self, *, nowait: bool) -> None:
        assert nowait
        self.closed = True


class Servers:
    """Two servers, of which one is the primary, and connections that are told to leave."""

    def __init__(self) -> None:
        self.roles = {OLD: b"master", NEW: b"slave"}
        self.counters = Counters()
        self.left: list[str] = []
        self.primary = Primary("events", (), self.dial, timeout_seconds=1.0)
        self.primary._discover = self.discover  # type: ignore[method-assign]
        self.primary.join(self)

    async def discover(self) -> Address:
        return OLD

    async def dial(self, address: Address) -> Any:
        return FakeConnection(address, self.roles[address])

    def leave_server(self, reason: str) -> None:
        self.left.append(reason)

    def say(self, channel: str, words: list[str]) -> None:
        self.primary._take(channel, words, self.counters)

    async def where(self) -> Address:
        connection: Any = await self.primary()
        address: Address = connection.address
        return address


async def test_while_a_replica_is_promoted_nobody_connects_and_then_all_do_to_that() -> None:
    servers = Servers()
    assert await servers.where() == OLD
    servers.say("+failover-state-send-slaveof-noone", PROMOTING)
    dialling = asyncio.create_task(servers.where())
    await asyncio.sleep(0.05)
    assert servers.left == ["a Sentinel is about to promote another primary"]
    assert not dialling.done()
    servers.roles = {OLD: b"master", NEW: b"master"}
    servers.say("+promoted-slave", PROMOTING)
    # The old one still calls itself a primary, and Sentinels still name it.
    assert await dialling == NEW
    assert await servers.where() == NEW
    servers.say("+switch-master", ["events", "10.0.0.1", "6379", "10.0.0.2", "6379"])
    await asyncio.sleep(0)
    assert len(servers.left) == 2
    assert servers.counters["primary_switches"] == 1


async def test_a_failover_that_is_given_up_lets_everybody_go_on_where_they_were() -> None:
    servers = Servers()
    assert await servers.where() == OLD
    servers.say("+failover-state-send-slaveof-noone", PROMOTING)
    servers.say("-failover-abort-slave-timeout", ["master", "events", "10.0.0.1", "6379"])
    async with asyncio.timeout(5):
        assert await servers.where() == OLD


async def test_what_is_said_of_another_service_is_nothing_to_us() -> None:
    servers = Servers()
    assert await servers.where() == OLD
    servers.say("+switch-master", ["others", "10.0.0.1", "6379", "10.0.0.2", "6379"])
    servers.say("+failover-state-send-slaveof-noone", [*PROMOTING[:5], "others", *PROMOTING[6:]])
    servers.say("+switch-master", ["nonsense"])
    async with asyncio.timeout(5):
        assert await servers.where() == OLD
    assert servers.left == []


async def test_a_server_that_is_no_primary_is_not_taken() -> None:
    servers = Servers()
    servers.roles[OLD] = b"slave"
    with pytest.raises(RedisConnectionError, match="no primary any more"):
        await servers.primary()


async def test_a_promoted_primary_that_does_not_answer_is_asked_for_anew() -> None:
    servers = Servers()
    servers.say("+switch-master", ["events", "10.0.0.1", "6379", "10.0.0.2", "6379"])
    assert await servers.where() == OLD
