"""Starts the application with a worker on an embedded server, and prints a verdict: how many events three steps have,
and how long events take to a hundred clients.

``--transcript`` prints what is said in such a plan instead.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from examples.stories import TRANSCRIPT, Processes, free_ports, ready, told

BASE = "/api/v1/streaming"
EXPECTED = {"plan_started": 1, "step_started": 3, "step_progress": 9, "step_completed": 3, "plan_completed": 1}
CLIENTS, MAX_LATENCY_MS, MIN_EVENTS_PER_SECOND = 100, 5.0, 1000
# What else runs on the machine only makes it slower, so the best of a few counts.
TRIES = 5


def plan_of(steps: int, seconds: float = 0.0) -> dict[str, Any]:
    return {
        "query": "rivers",
        "steps": [
            {"step_id": f"step_{number}", "query": "river", "seconds": seconds} for number in range(1, steps + 1)
        ],
    }


async def begin(client: httpx.AsyncClient, plan: dict[str, Any], plan_id: str) -> None:
    (await client.post(f"{BASE}/plans", params={"plan_id": plan_id}, json=plan)).raise_for_status()


async def until_the_end(connection: ClientConnection, delays_ms: list[float]) -> list[dict[str, Any]]:
    """The events of one plan; and how long each took from the worker to here."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["event_type"] != "plan_completed":
        message = json.loads(await connection.recv())
        if message["plan_id"] != "system":
            delays_ms.append(1000 * (time.time() - datetime.fromisoformat(message["timestamp"]).timestamp()))
            events.append(message)
    return events


async def told_to_all(
    client: httpx.AsyncClient, clients: list[ClientConnection], plan: dict[str, Any], plan_id: str
) -> tuple[float, float, int]:
    """The median latency in ms, how many events came a second, over all clients, and how many each has got."""
    for connection in clients:
        await connection.send(json.dumps({"action": "subscribe", "plan_id": plan_id}))
    delays_ms: list[float] = []
    await begin(client, plan, plan_id)
    begun = time.monotonic()
    all_events = await asyncio.gather(*(until_the_end(connection, delays_ms) for connection in clients))
    took = time.monotonic() - begun
    (count,) = {len(events) for events in all_events}
    return statistics.median(delays_ms), len(delays_ms) / took, count


async def story(url: str) -> bool:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        (first, *others) = [
            await stack.enter_async_context(connect(f"ws{url[4:]}{BASE}/ws/client-{number}"))
            for number in range(CLIENTS)
        ]
        await first.send(json.dumps({"action": "subscribe", "plan_id": "three"}))
        await begin(client, plan_of(3), "three")
        types = Counter(event["event_type"] for event in await until_the_end(first, []))
        latency_ms, shared_ms, rate = float("inf"), float("inf"), 0.0
        for number in range(TRIES):
            # One event at a time, to one of the clients, and to all; and then as many as there are.
            one, _, _ = await told_to_all(client, [first], plan_of(5, 0.15), f"one-{number}")
            every, _, _ = await told_to_all(client, [first, *others], plan_of(5, 0.15), f"paced-{number}")
            _, fast, count = await told_to_all(client, [first, *others], plan_of(40), f"fast-{number}")
            latency_ms, shared_ms, rate = min(latency_ms, one), min(shared_ms, every), max(rate, fast)
            if latency_ms < MAX_LATENCY_MS and rate > MIN_EVENTS_PER_SECOND:
                break
        connected = (await client.get(f"{BASE}/clients")).json()["client_count"]
    good = types == EXPECTED and connected == CLIENTS and count == 202
    good = good and latency_ms < MAX_LATENCY_MS and rate > MIN_EVENTS_PER_SECOND
    print(
        f"research: {'passed' if good else 'FAILED'}: {types.total()} events for three steps;"
        f" latency {latency_ms:.1f} ms to one client, {shared_ms:.1f} ms to {connected};"
        f" {rate:.0f} events a second to all of them"
    )
    return good


async def transcript(url: str) -> bool:
    """``<`` is what comes: of messages their type, step and data."""

    def heard(message: dict[str, Any]) -> None:
        print("<", message["event_type"], message["step_id"] or "-", json.dumps(message["data"]))

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        plan = plan_of(3)
        print("> POST", f"{BASE}/plans?plan_id=rivers", json.dumps(plan))
        begun = await client.post(f"{BASE}/plans", params={"plan_id": "rivers"}, json=plan)
        print("<", begun.status_code, begun.text)
        print("> WS", f"{BASE}/ws/ann?plan_id=rivers")
        async with connect(f"ws{url[4:]}{BASE}/ws/ann?plan_id=rivers") as connection:
            heard(json.loads(await connection.recv()))
            events: list[dict[str, Any]] = []
            while not events or events[-1]["event_type"] != "plan_completed":
                events.append(json.loads(await connection.recv()))
                heard(events[-1])
            print('> {"action": "ping"}')
            await connection.send('{"action": "ping"}')
            heard(json.loads(await connection.recv()))
            print("> GET", f"{BASE}/clients")
            print("<", (await client.get(f"{BASE}/clients")).text)
        print("# one message as it stands")
        print(json.dumps(events[2]))
    return True


async def tell(app: Processes) -> bool:
    (port,) = free_ports(1)
    app.serve(port)
    app.work("plans:registry")
    url = f"http://127.0.0.1:{port}"
    await ready([f"{url}/readyz"])
    return await (transcript if TRANSCRIPT else story)(url)


if __name__ == "__main__":
    sys.exit(told(__file__, tell))
