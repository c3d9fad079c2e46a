"""Starts the application twice, with a worker and a target, on an embedded server, and prints a verdict.

The instance that serves a scan is killed in the middle of it, and the worker: another goes on from the checkpoint.
``--transcript`` prints what is said instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

from examples.stories import TRANSCRIPT, Processes, free_ports, ready, told

PATH = "/api/v1/scan"
PROBES = 7
# The first answer is to the look at the target, the others are to probes.
ANSWERS_BEFORE = 4
Told = list[tuple[str, dict[str, Any]]]


async def read(
    client: httpx.AsyncClient, mode: str, body: dict[str, Any], told: Told, each: Callable[[str], None] = lambda _: None
) -> str:
    """What comes until the stream ends or is cut: of each event its id and its data. Gives the id of the scan."""
    headers = {"Last-Event-ID": told[-1][0]} if told else {}
    id_ = scan = ""
    with suppress(httpx.TransportError):
        async with client.stream(
            "POST", f"{PATH}/stream", params={"stream_mode": mode}, json=body, headers=headers
        ) as response:
            scan = response.headers["x-scan-id"]
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    id_ = line.removeprefix("id: ")
                elif line.startswith("data: "):
                    told.append((id_, json.loads(line.removeprefix("data: "))))
                    each(line.removeprefix("data: "))
    return scan


async def story(urls: list[str], target: str, kill: Callable[[], None]) -> bool:
    async with httpx.AsyncClient(base_url=urls[0], timeout=60) as first, httpx.AsyncClient(base_url=urls[1]) as second:
        second.timeout = first.timeout
        unknown = (await second.post(f"{PATH}/stream", params={"stream_mode": "all"}, json={})).status_code
        body = {"target_url": target, "campaign_id": "story"}
        told: Told = []

        def came(data: str) -> None:
            # With the third result the worker and this instance are gone.
            if json.loads(data)["type"] == "probe_result" and len(told) == ANSWERS_BEFORE + 1:
                kill()

        scan = await read(first, "custom", body, told, came)
        seen = len(told)
        await read(second, "custom", body, told)
        values: Told = []
        debug: Told = []
        for mode, into in (("values", values), ("debug", debug)):
            async with second.stream("GET", f"{PATH}/stream/{scan}", params={"stream_mode": mode}) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        into.append(("", json.loads(line.removeprefix("data: "))))
        asked = sum((await second.get(f"{target}/asked")).json().values())
    results = [data["data"]["probe_name"] for _, data in told if data["type"] == "probe_result"]
    # Where the worker is lost between the end of a probe and its checkpoint, that result is told again.
    kept = list(dict.fromkeys(data["probe_name"] for _, data in values if data["type"] == "probe_result"))
    both = [data.get("_mode") for _, data in debug if data["type"] == "probe_result"]
    end = told[-1][1]
    good = (
        list(dict.fromkeys(results)) == kept
        and len(kept) == PROBES
        and (both.count("state") >= PROBES, both.count(None)) == (True, len(results))
        and (end["type"], end["status"], unknown) == ("scan_ended", "completed", 422)
        and asked <= PROBES + 2
    )
    holes = len(end.get("failed", ()))
    print(
        f"scan: {'passed' if good else 'FAILED'}: {len(kept)} probes, of which {holes} found a hole,"
        f" with {asked} requests; instance and worker were killed after {seen} events, and the scan went on from its"
        f" checkpoint; seen as values, custom and debug; {unknown} for an unknown mode"
    )
    return good


async def transcript(url: str, target: str) -> bool:
    """``<`` is what comes: of events their data."""

    def plain(text: str) -> str:
        return text.replace(target, "http://127.0.0.1:8300")

    told: Told = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        body = {"target_url": target, "agent_types": ["sql"]}
        for mode in ("custom", "values"):
            print(f"> POST {PATH}/stream?stream_mode={mode}", plain(json.dumps(body)))
            told.clear()
            await read(client, mode, body, told, lambda data: print("<", plain(data)))
        body = {"target_url": target, "agent_types": ["sql", "smtp"]}
        print(f"> POST {PATH}/stream", plain(json.dumps(body)))
        refused = await client.post(f"{PATH}/stream", json=body)
        print("<", refused.status_code, plain(refused.text))
    return bool(told[-1][1]["status"] == "completed")


async def tell(app: Processes) -> bool:
    ports = free_ports(3)
    target = f"http://127.0.0.1:{ports[2]}"
    app.environment |= {"SCAN_DIR": f"{app.directory}/scans", "SCAN_TARGETS": target}
    first, worker = app.serve(ports[0]), app.work("swarm:registry")
    app.serve(ports[1])
    app.start("target.py", "--port", str(ports[2]))
    urls = [f"http://127.0.0.1:{port}" for port in ports[:2]]
    await ready([*(f"{url}/readyz" for url in urls), f"{target}/asked"])

    def kill() -> None:
        first.kill()
        worker.kill()
        app.work("swarm:registry")

    return await (transcript(urls[0], target) if TRANSCRIPT else story(urls, target, kill))


if __name__ == "__main__":
    sys.exit(told(__file__, tell))
