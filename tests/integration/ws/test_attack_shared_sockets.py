"""A quiet execution beside one with a long past, on one socket whose reader is slow."""

from __future__ import annotations

import asyncio
import socket

import pytest
import wsproto
from wsproto.events import AcceptConnection, Request, TextMessage

from tailrace.bus import Bus
from tests.integration.gateway.live import GatewayProcess
from tests.integration.ws.client import publish
from tests.patience import patient

pytestmark = pytest.mark.anyio

BYTES_A_SECOND = 400_000
TURN_SECONDS = 0.05


class SlowReader:
    """Takes so many bytes a second, and no more than the kernel holds of a small buffer."""

    def __init__(self, port: int) -> None:
        self._connection = socket.socket()
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        self._connection.connect(("127.0.0.1", port))
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._connection.sendall(self._protocol.send(Request(host=f"127.0.0.1:{port}", target="/v1/ws")))
        while not any(isinstance(event, AcceptConnection) for event in self._protocol.events()):
            self._protocol.receive_data(self._connection.recv(4096))
        self._text = ""

    def say(self, text: str) -> None:
        self._connection.sendall(self._protocol.send(TextMessage(data=text)))

    async def until(self, *wanted: str) -> float:
        """Read until a message has all of these; the seconds that it took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(patient(60)):
            while True:
                data = await asyncio.to_thread(self._connection.recv, int(BYTES_A_SECOND * TURN_SECONDS))
                assert data
                self._protocol.receive_data(data)
                for event in self._protocol.events():
                    if isinstance(event, TextMessage):
                        self._text += event.data
                        if event.message_finished:
                            text, self._text = self._text, ""
                            if all(each in text for each in wanted):
                                return loop.time() - began
                await asyncio.sleep(TURN_SECONDS)

    def close(self) -> None:
        self._connection.close()


async def test_attack_33_a_slow_reader_of_a_long_past_gets_what_happens_now_within_seconds(
    bus: Bus, server_url: str, prefix: str
) -> None:
    await publish(bus, "past", 200, pad=100_000)
    await publish(bus, "now", 1)
    with GatewayProcess(redis_url=server_url, prefix=prefix) as process:
        port = int((await asyncio.to_thread(process.url)).rsplit(":", 1)[1])
        reader = SlowReader(port)
        try:
            reader.say('{"op":"subscribe","id":1,"execution":"now"}')
            await reader.until('"op":"caught_up"')
            reader.say('{"op":"subscribe","id":2,"execution":"past"}')
            await reader.until('"execution":"past"', '"op":"event"')
            # As much as the buffers hold is under way by then; all of it takes 50 s.
            await asyncio.sleep(1)
            await publish(bus, "now", 1, first=1)
            late = await reader.until('"execution":"now"', '"n":1')
            reader.say('{"op":"unsubscribe","id":3,"execution":"past"}')
            answered = await reader.until('"op":"unsubscribed"')
        finally:
            reader.close()
    print(f"an event of now was {late:.1f} s late, unsubscribing took {answered:.1f} s")
    # Megabytes lay in the kernel, and both waited behind them for 15 s and more.
    assert late < 5
    assert answered < 5
