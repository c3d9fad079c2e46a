"""Starts the application twice, with a worker and an offline model, on an embedded server, and prints a verdict.

The instance that serves a turn is killed in the middle of it. ``--transcript`` prints what is said instead.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

from examples.stories import TRANSCRIPT, Processes, free_ports, ready, told

QUERY = "/create a todo: buy milk and then wait 1; list todos; why is the sky blue?"
Told = list[tuple[str, str, dict[str, Any]]]


def asked(query: str, **more: Any) -> dict[str, Any]:
    return {"user_id": "ann", "user_query": query, "timeout_seconds": 60, "show_agent_traces": True, **more}


async def read(
    client: httpx.AsyncClient, body: dict[str, Any], told: Told, each: Callable[[str, str], None] = lambda *_: None
) -> None:
    """What comes until the stream ends or is cut: of each event its id, its name and its data."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": told[-1][0]} if told else {})
    fields: dict[str, str] = {}
    with suppress(httpx.TransportError):
        async with client.stream("POST", "/invoke_agent_stream", json=body, headers=headers) as response:
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                fields[name] = value
                if name == "data":
                    told.append((fields.get("id", ""), fields["event"], json.loads(value)))
                    each(fields["event"], value)


async def story(urls: list[str], kill_first: Callable[[], None]) -> bool:
    async with httpx.AsyncClient(base_url=urls[0], timeout=60) as first, httpx.AsyncClient(base_url=urls[1]) as second:
        second.timeout = first.timeout
        unknown = (await second.post("/invoke_agent_stream", json=asked("list todos"))).status_code
        (await second.post("/initialize", json={"user_id": "ann"})).raise_for_status()
        told: Told = []
        begun = time.monotonic()
        first_ms: list[float] = []
        in_flight: list[asyncio.Task[httpx.Response]] = []

        def came(_name: str, data: str) -> None:
            if not first_ms:
                first_ms.append(1000 * (time.monotonic() - begun))
                in_flight.append(asyncio.create_task(second.post("/invoke_agent_stream", json=asked("list todos"))))
            if "token" in json.loads(data):
                kill_first()

        await read(first, asked(QUERY), told, came)
        seen = len(told)
        await read(second, asked(QUERY), told)
        conflict = (await in_flight[0]).status_code
        late: Told = []
        await read(second, asked("wait 30", timeout_seconds=1), late)
    names = [name for _, name, _ in told]
    ids = {id_ for id_, _, _ in told}
    good = names == ["trace"] * (len(names) - 1) + ["command_output"] and len(ids) == len(names) and seen < len(names)
    good = good and (unknown, conflict, late[-1][2]["code"]) == (404, 409, 504)
    print(
        f"assistant: {'passed' if good else 'FAILED'}: the first trace after {first_ms[0]:.0f} ms; its"
        f" instance was killed after {seen} events, the other one gave {len(names) - seen}, the last a {names[-1]},"
        f" none twice; {unknown} without a session, {conflict} in flight, {late[-1][2]['code']} too late"
    )
    return good


async def transcript(url: str) -> bool:
    """``<`` is what comes: of events their name and data."""
    told: Told = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for path, body in (("/invoke_agent", asked(QUERY)), ("/initialize", {"user_id": "ann"})):
            print(f"> POST {path}", json.dumps(body))
            answer = await client.post(path, json=body)
            print("<", answer.status_code, answer.text)
        for body in (asked(QUERY), asked("wait 30", timeout_seconds=0.5, show_agent_traces=False)):
            print("> POST /invoke_agent_stream", json.dumps(body))
            told.clear()
            await read(client, body, told, lambda name, data: print("<", name, data))
    return told[-1][1] == "error"


async def tell(app: Processes) -> bool:
    ports = free_ports(3)
    app.environment |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{ports[2]}/v1", "OPENAI_API_KEY": "offline"}
    first = app.serve(ports[0])
    app.serve(ports[1])
    app.work("agent:registry")
    app.start("../offline_model/offline_model.py", "--port", str(ports[2]))
    urls = [f"http://127.0.0.1:{port}" for port in ports[:2]]
    await ready([f"{url}/readyz" for url in urls])
    return await (transcript(urls[0]) if TRANSCRIPT else story(urls, first.kill))


if __name__ == "__main__":
    sys.exit(told(__file__, tell))
