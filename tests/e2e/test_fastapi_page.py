"""docs/fastapi.md as it stands: its worker and its application, as processes, two instances of the latter."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.e2e.docs_support_page import Page
from tests.patience import patient

ROOT: Final = Path(__file__).parents[2]
ANN: Final = {"Authorization": "Bearer secret-of-ann"}
BOB: Final = {"Authorization": "Bearer secret-of-bob"}


@contextlib.contextmanager
def started(folder: Path, environment: dict[str, str], *command: str, ready: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if ready in line:
                break
        else:
            pytest.fail("".join(lines))
        yield process
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def events_of(body: str) -> list[tuple[str, str, Any]]:
    found = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
        if "data" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


def test_the_application_of_the_page_streams_resumes_elsewhere_and_keeps_users_apart(
    tmp_path: Path, server_url: str, prefix: str
) -> None:
    agent, main, *_ = Page("fastapi", (ROOT / "docs/fastapi.md").read_text()).blocks_of("python")
    (tmp_path / "agent.py").write_text(agent)
    (tmp_path / "main.py").write_text(main)
    environment = {
        **os.environ,
        "TAILRACE_REDIS_URL": server_url,
        "TAILRACE_PREFIX": prefix,
        "TAILRACE_DRAIN_SECONDS": "0.5",
        "PYTHONPATH": str(tmp_path),
    }
    with contextlib.ExitStack() as stack:
        worker = ("tailrace", "worker", "--pipelines", "agent:registry")
        stack.enter_context(started(tmp_path, environment, *worker, ready="worker ready"))
        urls = []
        for _ in range(2):
            port = free_port()
            instance = ("uvicorn", "main:app", "--port", str(port))
            process = stack.enter_context(started(tmp_path, environment, *instance, ready="Uvicorn running"))
            urls.append((f"http://127.0.0.1:{port}", process))
        (here, first), (there, _) = urls
        client = stack.enter_context(httpx.Client(timeout=patient(30), headers=ANN))

        turn = {"query": "a mill and its tailrace"}
        whole = events_of(client.post(f"{here}/agent", json=turn).text)
        assert [name for _, name, _ in whole] == ["trace"] * 5 + ["command_output"]
        assert whole[-1][2] == {"success": True, "workflow_name": "answer", "words": 5}

        # Elsewhere, by the last id alone, with the POST and with a GET; not by another user, nor by nobody.
        resumes = {**ANN, "Last-Event-ID": whole[1][0]}
        assert events_of(client.post(f"{there}/agent", json=turn, headers=resumes).text) == whole[2:]
        execution = whole[0][0].partition(":")[0]
        assert events_of(client.get(f"{there}/agent/{execution}").text) == whole
        for refused in (
            client.get(f"{there}/agent/{execution}", headers=BOB),
            client.post(f"{there}/agent", json=turn, headers={**BOB, "Last-Event-ID": whole[1][0]}),
            client.get(f"{there}/agent/none"),
        ):
            assert (refused.status_code, refused.json()["code"]) == (404, "execution_unknown")
        assert client.get(f"{there}/agent/{execution}", headers={"Authorization": ""}).status_code == 401
        assert client.get(f"{here}/agent/{execution}", headers={"Last-Event-ID": whole[-1][0]}).status_code == 204

        # A turn in flight; its instance is told to stop, and the other one goes on with it.
        long = {"query": " ".join(["word"] * 30)}
        with client.stream("POST", f"{here}/agent", json=long) as answer:
            body = ""
            for text in answer.iter_text():
                body += text
                if "event: trace" in body and first.poll() is None and "stream.reconnect" not in body:
                    assert client.post(f"{there}/agent", json=long).status_code == 409
                    first.send_signal(signal.SIGTERM)
        *seen, away = [block for block in body.split("\n\n") if block]
        assert "event: stream.reconnect" in away
        part = events_of("\n\n".join(seen))
        rest = events_of(client.post(f"{there}/agent", json=long, headers={"Last-Event-ID": part[-1][0]}).text)
        assert [name for _, name, _ in part + rest] == ["trace"] * 30 + ["command_output"]

        failed = events_of(client.post(f"{there}/agent", json={"query": "fail"}).text)
        assert [(name, data["detail"]) for _, name, data in failed] == [("error", "The agent has lost the thread.")]
