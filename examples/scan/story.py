"""Starts the application twice, with a worker and a target, on an embedded server, and prints a verdict.

The instance that serves a scan is killed in the middle of it, and the worker: another goes on from the checkpoint.
``--transcript`` prints what is said instead.
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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
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


async def run(urls: list[str], target: str, kill: Callable[[], None]) -> bool:
    async with httpx.AsyncClient() as client:
        for url in (*(f"{url}/readyz" for url in urls), f"{target}/asked"):
            while True:
                with suppress(httpx.TransportError):
                    if (await client.get(url)).is_success:
                        break
                await asyncio.sleep(0.1)
    if sys.argv[1:] == ["--transcript"]:
        return await transcript(urls[0], target)
    return await story(urls, target, kill)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def main() -> int:
    ports = [free_port() for _ in range(3)]
    target = f"http://127.0.0.1:{ports[2]}"
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "log").open("w+") as log:
        redis_url = os.environ.get("TAILRACE_REDIS_URL", f"embedded://{directory}/data")
        own = {"SCAN_DIR": f"{directory}/scans", "SCAN_TARGETS": target, "TAILRACE_REDIS_URL": redis_url}
        worker = ("-m", "tailrace", "worker", "--pipelines", "swarm:registry")
        commands = (
            *(("-m", "uvicorn", "main:app", "--port", str(port), "--log-level", "warning") for port in ports[:2]),
            worker,
            ("target.py", "--port", str(ports[2])),
        )

        def start(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, *command], cwd=HERE, env={**os.environ, **own}, stdout=log, stderr=log
            )

        started = [start(command) for command in commands]

        def kill() -> None:
            for process in (started[0], started[2]):
                process.kill()
            started.append(start(worker))

        good = False
        try:
            good = asyncio.run(run([f"http://127.0.0.1:{port}" for port in ports[:2]], target, kill))
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
