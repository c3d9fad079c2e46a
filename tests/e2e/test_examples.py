"""The small examples, run as they stand: programs of others whose work can be watched."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import openai
import pytest

from tailrace.bus import Bus, BusSettings, Entry, open_bus
from tests.patience import patient
from tests.servers import RunningServer

pytestmark = pytest.mark.anyio

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
LEASE_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 40.0


@pytest.fixture
async def bus(fresh_server: RunningServer) -> AsyncGenerator[Bus, None]:
    """Programs of others have keys of their own, so the server is one of our own; its keys have their usual prefix."""
    async with await open_bus(fresh_server.url, settings=BusSettings(lease_seconds=LEASE_SECONDS)) as opened:
        yield opened


@contextmanager
def program(folder: str, *command: str, server: RunningServer) -> Iterator[subprocess.Popen[str]]:
    """Ended on leaving, if it has not ended by itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    environment |= {
        "TAILRACE_TEST_SESSION": os.environ["TAILRACE_TEST_SESSION"],
        "TAILRACE_REDIS_URL": server.url,
        "TAILRACE_LEASE_SECONDS": str(LEASE_SECONDS),
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES / folder), str(EXAMPLES.parent)]),
    }
    started = subprocess.Popen(
        [sys.executable, *command],
        cwd=EXAMPLES / folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


async def said(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = await asyncio.to_thread(process.communicate, timeout=patient(PATIENCE_SECONDS))
    return process.returncode, output, errors


async def watched(bus: Bus, execution_id: str, until: str | None = None) -> list[Entry]:
    entries = []
    async with asyncio.timeout(patient(PATIENCE_SECONDS)):
        async for item in bus.follow(execution_id):
            assert isinstance(item, Entry), item
            entries.append(item)
            if item.type == until:
                break
    return entries


async def test_a_plain_script_is_an_execution(bus: Bus, fresh_server: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("tail")
    with program("plain_script", "digest.py", str(file), "--id", "nightly", server=fresh_server) as script:
        entries = await watched(bus, "nightly")
        code, output, errors = await said(script)
    expected = hashlib.sha256(b"tail").hexdigest()
    assert (code, errors) == (0, "")
    assert output == f"running as nightly\n{expected}  a.txt\n"
    assert [entry.type for entry in entries] == [
        "execution.started",
        "step.started",
        "step.completed",
        "step.progress",
        "execution.completed",
    ]
    assert entries[-1].data == {"result": {"a.txt": expected}}


async def test_a_plain_script_can_be_cancelled_from_elsewhere(
    bus: Bus, fresh_server: RunningServer, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("tail")
    command = ("digest.py", *[str(file)] * 50, "--id", "nightly", "--slowly", "10")
    with program("plain_script", *command, server=fresh_server) as script:
        await watched(bus, "nightly", until="step.progress")
        outcome = await bus.control.cancel("nightly", reason="enough", by="ann", wait_seconds=PATIENCE_SECONDS)
        code, _, errors = await said(script)
    assert outcome.status == "cancelled"
    assert (code, errors) == (130, "digest: cancelled\n")


async def test_a_plain_script_that_fails_says_why(bus: Bus, fresh_server: RunningServer, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with program("plain_script", "digest.py", nowhere, "--id", "nightly", server=fresh_server) as script:
        entries = await watched(bus, "nightly")
        code, _, errors = await said(script)
    assert code == 1
    assert "No such file" in errors
    assert (entries[-1].type, entries[-1].data["exception"]) == ("execution.failed", "FileNotFoundError")


async def test_a_plain_script_that_is_killed_gets_its_ending_from_others(
    bus: Bus, fresh_server: RunningServer, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("tail")
    command = ("digest.py", *[str(file)] * 50, "--id", "nightly", "--slowly", "10")
    async with bus.healer.running():
        with program("plain_script", *command, server=fresh_server) as script:
            await watched(bus, "nightly", until="step.progress")
            script.send_signal(signal.SIGKILL)
            begun = asyncio.get_running_loop().time()
            entries = await watched(bus, "nightly")
            took = asyncio.get_running_loop().time() - begun
    print(f"from death to the ending: {took:.1f} s (lease {LEASE_SECONDS:g} s)")
    assert (entries[-1].type, entries[-1].data["reason"]) == ("execution.failed", "worker_lost")


async def test_a_job_of_rq_is_an_execution(bus: Bus, fresh_server: RunningServer, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or\nnot to be\n")
    worker = ("-m", "rq.cli", "worker", "--url", fresh_server.url, "--quiet", "words")
    with (
        program("rq_job", *worker, server=fresh_server) as working,
        program("rq_job", "enqueue.py", str(text), server=fresh_server) as enqueueing,
    ):
        code, output, errors = await said(enqueueing)
        working.send_signal(signal.SIGINT)
        await said(working)
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == [
        "execution.started",
        "step.progress",
        "step.progress",
        "execution.completed",
    ]
    assert re.search(r"'to': 2, 'be': 2", lines[-1])


async def test_a_job_of_rq_that_fails_says_why(bus: Bus, fresh_server: RunningServer, tmp_path: Path) -> None:
    worker = ("-m", "rq.cli", "worker", "--url", fresh_server.url, "--quiet", "words")
    with (
        program("rq_job", *worker, server=fresh_server) as working,
        program("rq_job", "enqueue.py", str(tmp_path / "nowhere"), server=fresh_server) as enqueueing,
    ):
        code, output, _ = await said(enqueueing)
        working.send_signal(signal.SIGINT)
        await said(working)
    assert code == 0
    assert "execution.failed" in output.splitlines()[-1]
    assert "FileNotFoundError" in output.splitlines()[-1]


def test_the_tests_of_the_application_with_answers_pass_as_they_stand(fresh_server: RunningServer) -> None:
    with program("fastapi_answer", "-m", "pytest", "-q", "-p", "no:cacheprovider", server=fresh_server) as tests:
        said, errors = tests.communicate(timeout=patient(60))
    assert tests.returncode == 0, said + errors
    assert "2 passed" in said


async def test_the_application_with_answers_streams_one_to_its_user(bus: Bus, fresh_server: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, ann = f"http://127.0.0.1:{port}", {"user": "ann"}
    with program("fastapi_answer", "-m", "uvicorn", "main:app", "--port", str(port), server=fresh_server):
        async with httpx.AsyncClient(timeout=patient(10)) as client, asyncio.timeout(patient(30)):
            while True:
                try:
                    asked = await client.post(f"{url}/answers", json={"text": "why?"}, headers=ann)
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
            answer = asked.json()["id"]
            body = (await client.get(f"{url}/answers/{answer}", headers=ann)).text
            assert 'event: done\ndata: {"words":3}' in body
            for_bob = (await client.get(f"{url}/answers/{answer}", headers={"user": "bob"})).text
            assert "execution_unknown" in for_bob
    state = await bus.state(answer)
    assert state is not None
    assert (state.status, state.labels) == ("completed", {"user": "ann"})


async def test_the_offline_model_streams_to_the_sdk_of_openai(fresh_server: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ("offline_model.py", "--port", str(port), "--tokens-per-second", "50", "--text", "one  two\nthree ")
    url = f"http://127.0.0.1:{port}/v1"
    with program("offline_model", *command, server=fresh_server):
        async with (
            openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=patient(10)) as client,
            asyncio.timeout(patient(30)),
        ):
            while True:
                try:
                    stream = await client.chat.completions.create(
                        model="any",
                        messages=[{"role": "user", "content": "count to three"}],
                        stream=True,
                        stream_options={"include_usage": True},
                    )
                    break
                except openai.APIConnectionError:
                    await asyncio.sleep(0.05)
            begun = asyncio.get_running_loop().time()
            chunks = [chunk async for chunk in stream]
            took = asyncio.get_running_loop().time() - begun
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert texts == ["", "one", "  two", "\nthree", " ", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None] * 5 + ["stop"]
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (3, 4)
    assert took > 0.05
