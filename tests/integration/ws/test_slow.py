"""A reader that is slow costs nobody else anything, and itself nothing but time."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.bus import Bus
from tailrace.gateway.app import create_app
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import live_app
from tests.integration.ws.client import connected, publish
from tests.integration.ws.raw import Raw, raw
from tests.patience import patient

pytestmark = pytest.mark.anyio

NAMES = ("a", "b", "c")
# More than the kernel's buffers of one connection take.
COUNT = 3000
PAD = 2000


def counts(client: Raw, name: str) -> list[int]:
    events = [said for said in client.said if said["op"] == "event" and said["execution"] == name]
    return [said["data"]["n"] for said in events if said["type"] == "custom.count"]


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("live", [True, False], ids=["live", "replayed"])
async def test_a_full_socket_holds_up_no_other_and_gets_all_of_every_execution_later(bus: Bus, *, live: bool) -> None:
    for name in NAMES:
        await publish(bus, name, 1 if live else COUNT, pad=PAD)
    app = create_app(bus, read_settings(drain_seconds=0))
    async with live_app(app) as url, raw(url, receive_bytes=4096) as slow, connected(f"ws{url[4:]}/v1/ws") as fast:
        for number, name in enumerate(NAMES):
            await slow.send({"op": "subscribe", "id": number, "execution": name})
            await fast.ask("subscribe", execution=name)
        if live:
            await asyncio.gather(*(publish(bus, name, COUNT - 1, first=1, pad=PAD) for name in NAMES))
        await asyncio.gather(*(publish(bus, name, 0, end=True) for name in NAMES))
        for _ in NAMES:
            await fast.until("end")
        assert all(fast.counts(name) == list(range(COUNT)) for name in NAMES)
        assert app.state.gateway.hub.counters["viewer_lags"] > 0
        for _ in NAMES:
            await slow.until("end")
        assert all(counts(slow, name) == list(range(COUNT)) for name in NAMES)
        assert app.state.gateway.hub.viewers == 0


@pytest.mark.usefixtures("both_ways")
async def test_a_reader_that_takes_nothing_is_cut_and_resumes_without_loss(bus: Bus) -> None:
    for name in NAMES:
        await publish(bus, name, COUNT, pad=PAD)
    app = create_app(bus, read_settings(drain_seconds=0, slow_timeout_seconds=1))
    async with live_app(app) as url:
        hub = app.state.gateway.hub
        async with raw(url, receive_bytes=4096) as stuck:
            for number, name in enumerate(NAMES):
                await stuck.send({"op": "subscribe", "id": number, "execution": name})
            async with asyncio.timeout(patient(15)):
                while not hub.counters["slow_cuts"]:  # noqa: ASYNC110 - the hub tells nobody
                    await asyncio.sleep(0.02)
            assert hub.viewers == 0
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await stuck.close_code()
        seen = {name: [said for said in stuck.said if said.get("execution") == name] for name in NAMES}
        async with raw(url) as client:
            for number, name in enumerate(NAMES):
                cursors = [said["id"] for said in seen[name] if said["op"] == "event"]
                start = cursors[-1] if cursors else "0"
                await client.send({"op": "subscribe", "id": number, "execution": name, "from": start})
            await asyncio.gather(*(publish(bus, name, 0, end=True) for name in NAMES))
            for _ in NAMES:
                await client.until("end")
            for name in NAMES:
                assert counts(stuck, name) + counts(client, name) == list(range(COUNT))
