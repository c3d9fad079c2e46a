"""Starts the application twice, with a worker and a server to read from, on an embedded server, and prints a verdict.

The instance that serves an ingest is killed in the middle of it. ``--transcript`` prints what is said instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
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


async def run(urls: list[str], source: str, kill_first: Callable[[], None]) -> bool:
    async with httpx.AsyncClient() as client:
        for url in (*(f"{url}/readyz" for url in urls), f"{source}/asked"):
            while True:
                with suppress(httpx.TransportError):
                    if (await client.get(url)).is_success:
                        break
                await asyncio.sleep(0.1)
    if sys.argv[1:] == ["--transcript"]:
        return await transcript(urls[0], source)
    return await story(urls, source, kill_first)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def main() -> int:
    ports = [free_port() for _ in range(3)]
    source = f"http://127.0.0.1:{ports[2]}"
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "log").open("w+") as log:
        redis_url = os.environ.get("TAILRACE_REDIS_URL", f"embedded://{directory}/data")
        own = {"INGEST_DIR": f"{directory}/documents", "INGEST_ORIGINS": source, "TAILRACE_REDIS_URL": redis_url}
        commands = (
            *(("-m", "uvicorn", "main:app", "--port", str(port), "--log-level", "warning") for port in ports[:2]),
            ("-m", "tailrace", "worker", "--pipelines", "ingest:registry"),
            ("sources.py", "--port", str(ports[2])),
        )
        started = [
            subprocess.Popen([sys.executable, *command], cwd=HERE, env={**os.environ, **own}, stdout=log, stderr=log)
            for command in commands
        ]
        good = False
        try:
            good = asyncio.run(run([f"http://127.0.0.1:{port}" for port in ports[:2]], source, started[0].kill))
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait()
            if not good:
                log.seek(0)
                sys.stderr.write(log.read())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
