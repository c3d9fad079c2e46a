"""Starts the application twice, with a worker and a server to read from, on an embedded server, and prints a verdict.

The instance that serves an ingest is killed in the middle of it. ``--transcript`` prints what is said instead.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

from examples.stories import TRANSCRIPT, Processes, free_ports, ready, told

STEPS = (
    *("extracting_id", "extracted_id", "checking_cache", "fetching_transcript", "transcript_fetched"),
    *("archiving", "archived", "storing", "stored"),
)
Told = list[tuple[str, str, dict[str, Any]]]


async def read(
    client: httpx.AsyncClient, body: dict[str, Any], told: Told, each: Callable[[str, str], None] = lambda *_: None
) -> None:
    """What comes until the stream ends or is cut: of each event its id, its name and its data."""
    headers = {"Last-Event-ID": told[-1][0]} if told else {}
    fields: dict[str, str] = {}
    with suppress(httpx.TransportError):
        async with client.stream("POST", "/ingest/stream", json=body, headers=headers) as response:
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                fields[name] = value
                if name == "data":
                    told.append((fields.get("id", ""), fields["event"], json.loads(value)))
                    each(fields["event"], value)


async def story(urls: list[str], source: str, kill_first: Callable[[], None]) -> bool:
    async with httpx.AsyncClient(base_url=urls[0], timeout=60) as first, httpx.AsyncClient(base_url=urls[1]) as second:
        second.timeout = first.timeout
        refused = (await second.post("/ingest/stream", json={"url": "http://10.0.0.1/secret"})).status_code
        await second.get(f"{source}/hold")
        told: Told = []

        def came(_name: str, data: str) -> None:
            # The text does not come: the ingest stands here.
            if json.loads(data).get("step") == "fetching_transcript":
                kill_first()

        video = {"url": f"{source}/watch?v=rivers"}
        await read(first, video, told, came)
        seen = len(told)
        active = (await second.get("/stats")).json()["processing_count"]
        await second.get(f"{source}/release")
        await read(second, video, told)
        again: Told = []
        begun = time.monotonic()
        await read(second, video, again)
        again_ms = 1000 * (time.monotonic() - begun)
        channel: Told = []
        await read(second, {"url": f"{source}/channel/rivers", "channel_limit": "month"}, channel)
        listed = (await second.get("/ingest", params={"limit": "all"})).json()["count"]
        idle = (await second.get("/stats")).json()["processing_count"]
    steps = [data["step"] for _, name, data in told if name == "progress"]
    outcomes = [each[-1][2]["status"] for each in (told, again, channel)]
    items = channel[-1][2]["details"]["success"]
    good = (
        steps == list(STEPS)
        and seen == STEPS.index("fetching_transcript") + 1
        and len({id_ for id_, _, _ in told}) == len(told)
        and outcomes == ["success", "skipped", "success"]
        and (refused, active, idle, listed) == (422, 1, 0, items + 1)
    )
    print(
        f"ingest: {'passed' if good else 'FAILED'}: {len(steps)} steps and one complete, though the instance was killed"
        f" after {seen}, none twice; the same again {outcomes[1]} in {again_ms:.0f} ms; {items} items of a channel;"
        f" {active} active then, {idle} now; {refused} for a URL that is not allowed"
    )
    return good


async def transcript(url: str, source: str) -> bool:
    """``<`` is what comes: of events their name and data."""
    told: Told = []

    def plain(text: str) -> str:
        return text.replace(source, "http://127.0.0.1:8200")

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for body in (
            {"document": {"title": "rivers", "text": "They flow one way."}},
            {"document": {"title": "rivers", "text": "They flow one way."}},
            {"url": f"{source}/gone"},
        ):
            print("> POST /ingest/stream", plain(json.dumps(body)))
            told.clear()
            await read(client, body, told, lambda name, data: print("<", name, plain(data)))
        print("> GET /ingest?limit=all")
        print("<", plain((await client.get("/ingest", params={"limit": "all"})).text))
    return bool(told[-1][2]["status"] == "error")


async def tell(app: Processes) -> bool:
    ports = free_ports(3)
    source = f"http://127.0.0.1:{ports[2]}"
    app.environment |= {"INGEST_DIR": f"{app.directory}/documents", "INGEST_ORIGINS": source}
    first = app.serve(ports[0])
    app.serve(ports[1])
    app.work("ingest:registry")
    app.start("sources.py", "--port", str(ports[2]))
    urls = [f"http://127.0.0.1:{port}" for port in ports[:2]]
    await ready([*(f"{url}/readyz" for url in urls), f"{source}/asked"])
    return await (transcript(urls[0], source) if TRANSCRIPT else story(urls, source, first.kill))


if __name__ == "__main__":
    sys.exit(told(__file__, tell))
