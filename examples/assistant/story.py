"""Starts the application twice, with a worker and an offline model, on an embedded server, and prints a verdict.

The instance that serves a turn is killed in the middle of it. ``--transcript`` prints what is said instead.
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


async def run(urls: list[str], kill_first: Callable[[], None]) -> bool:
    async with httpx.AsyncClient() as client:
        for url in urls:
            while True:
                with suppress(httpx.TransportError):
                    if (await client.get(f"{url}/readyz")).is_success:
                        break
                await asyncio.sleep(0.1)
    return await (transcript(urls[0]) if sys.argv[1:] == ["--transcript"] else story(urls, kill_first))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def main() -> int:
    ports = [free_port() for _ in range(3)]
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "log").open("w+") as log:
        redis_url = os.environ.get("TAILRACE_REDIS_URL", f"embedded://{directory}/data")
        model = {"OPENAI_BASE_URL": f"http://127.0.0.1:{ports[2]}/v1", "OPENAI_API_KEY": "offline"}
        environment = {**os.environ, **model, "TAILRACE_REDIS_URL": redis_url}
        commands = (
            *(("-m", "uvicorn", "main:app", "--port", str(port), "--log-level", "warning") for port in ports[:2]),
            ("-m", "tailrace", "worker", "--pipelines", "agent:registry"),
            ("../offline_model/offline_model.py", "--port", str(ports[2])),
        )
        started = [
            subprocess.Popen([sys.executable, *command], cwd=HERE, env=environment, stdout=log, stderr=log)
            for command in commands
        ]
        good = False
        try:
            good = asyncio.run(run([f"http://127.0.0.1:{port}" for port in ports[:2]], started[0].kill))
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
