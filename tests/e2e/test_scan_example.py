"""examples/scan, driven from outside over HTTP, while its processes are killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.e2e.application import EXAMPLES, Application, application
from tests.e2e.waiting import eventually
from tests.integration.cli.processes import wait_until
from tests.patience import patient
from tests.servers import RunningServer, free_port

pytestmark = pytest.mark.anyio

PATH: Final = "/api/v1/scan"
PROBES: Final = {
    "sql": ["sqli_tautology", "sqli_comment", "sqli_union"],
    "auth": ["auth_missing", "auth_header_trust"],
    "xss": ["xss_reflected"],
    "redirect": ["open_redirect"],
}
NAMES: Final = [name for names in PROBES.values() for name in names]
SOUND: Final = {"auth_missing", "auth_header_trust"}
FAILED: Final = [name for name in NAMES if name not in SOUND]


async def test_the_scan_application(fresh_server: RunningServer, tmp_path: Path) -> None:
    # Named by the operator, and nobody listens there.
    nowhere = f"http://127.0.0.1:{free_port()}"
    with shop() as target:
        environment = {"SCAN_TARGETS": f"{target},{nowhere}", "SCAN_DIR": str(tmp_path / "scans")}
        with application("scan", "swarm:registry", fresh_server, tmp_path, **environment) as (app, url):
            async with httpx.AsyncClient(base_url=url, timeout=patient(20)) as client, asyncio.timeout(patient(80)):
                await what_nodes_write(client, target)
                await its_other_views(app, client, target)
                await what_fails(client, target, nowhere)
                await what_is_wrong(client, target)
                await a_cancel_and_its_resumption(app, client, target)
                await deaths(app, client, target)


def test_a_node_that_is_run_outside_a_stream_writes_nowhere_and_does_not_fail() -> None:
    with shop() as target:
        code = (
            "import asyncio, swarm\n"
            f"state = {{'audit_id': 'x', 'target_url': '{target}', 'agent_types': ['xss'], 'done': 0, 'events': []}}\n"
            "print(asyncio.run(swarm.execute(state))['events'][0]['status'])\n"
            "print(asyncio.run(swarm.GRAPH.ainvoke(state))['done'])\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", code],
            cwd=EXAMPLES / "scan",
            env={"SCAN_TARGETS": target, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=patient(20),
            check=False,
        )
    assert ran.stdout == "fail\n1\n", ran.stderr


class Scan(list[dict[str, Any]]):
    """What has come of it. ``port`` is the client's of the last stream, ``last`` the id of the last event."""

    id: str
    port: int
    last = ""
    opened = 0

    async def read(self, client: httpx.AsyncClient, body: dict[str, Any], mode: str = "custom") -> Scan:
        """Until ``scan_ended``; where the stream is cut it comes back with the id of the last event."""
        while not (self and self[-1]["type"] == "scan_ended"):
            headers = {"Last-Event-ID": self.last} if self.last else {}
            query = {"stream_mode": mode}
            try:
                async with client.stream("POST", f"{PATH}/stream", params=query, json=body, headers=headers) as answer:
                    if answer.status_code in {502, 503}:
                        continue
                    assert answer.status_code == 200, await answer.aread()
                    self.id = answer.headers["x-scan-id"]
                    self.port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
                    self.opened += 1
                    await self._collect(answer)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        return self

    async def view(self, client: httpx.AsyncClient, scan_id: str, mode: str) -> Scan:
        """The whole of one that is there."""
        query = {"stream_mode": mode}
        async with client.stream("GET", f"{PATH}/stream/{scan_id}", params=query) as answer:
            assert answer.status_code == 200, await answer.aread()
            await self._collect(answer)
        return self

    async def _collect(self, answer: httpx.Response) -> None:
        id_ = ""
        async for line in answer.aiter_lines():
            assert not line.startswith("event:"), "its events have no names"
            if line.startswith("id: "):
                id_ = line.removeprefix("id: ")
            elif line.startswith("data: "):
                self.append(json.loads(line.removeprefix("data: ")))
                self.last = id_ or self.last

    def results(self) -> list[dict[str, Any]]:
        return [event for event in self if event["type"] == "probe_result"]


async def what_nodes_write(client: httpx.AsyncClient, target: str) -> None:
    """The seed's own request, whose mode is custom."""
    body = {"target_url": target, "campaign_id": "test-123"}
    async with client.stream("POST", f"{PATH}/stream", json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].split(";")[0] == "text/event-stream"
        for header, value in (("cache-control", "no-cache"), ("x-accel-buffering", "no")):
            assert response.headers.get_list(header) == [value]
        scan = Scan()
        await scan._collect(response)
        scan.id = response.headers["x-scan-id"]
    assert scan == await Scan().view(client, scan.id, "custom")
    for event in scan[:-1]:
        assert event.keys() == {"type", "timestamp", "node", "agent", "progress", "data"}
        assert event["timestamp"].endswith("Z")
        assert datetime.fromisoformat(event["timestamp"]).tzinfo is not None
    assert [event["type"] for event in scan[:-1]] == ["scan_started"] + [
        kind for names in PROBES.values() for kind in ("agent_started", *["probe_result"] * len(names))
    ]
    for number, (event, name) in enumerate(zip(scan.results(), NAMES, strict=True), start=1):
        assert (event["node"], name in PROBES[event["agent"]]) == ("execute_agent", True)
        assert event["progress"] == round(number / len(NAMES), 4)
        assert event["data"].keys() == {"probe_name", "status", "detector_score"}
        assert (event["data"]["probe_name"], event["data"]["status"]) == (name, "pass" if name in SOUND else "fail")
        assert (event["data"]["detector_score"] >= 0.5) == (name not in SOUND)
    assert scan[3]["data"] == {"probe_name": "sqli_comment", "status": "fail", "detector_score": 0.95}
    assert scan[-1] == {
        "type": "scan_ended",
        "status": "completed",
        "target_url": target,
        "probes": len(NAMES),
        "failed": FAILED,
    }
    state = (await client.get(f"{PATH}/{scan.id}")).json()
    assert state == {
        "scan_id": scan.id,
        "status": "completed",
        "attempt": 1,
        "campaign_id": "test-123",
        "checkpoint": "persistent",
    }


async def its_other_views(app: Application, client: httpx.AsyncClient, target: str) -> None:
    """Of one scan at the same time, on both instances, with each kind of checkpoint."""
    for checkpoint in ("none", "memory", "persistent"):
        body = {"target_url": target, "agent_types": ["xss", "sql", "xss"], "checkpoint": checkpoint}
        values = await Scan().read(client, body, "values")
        names = [*PROBES["xss"], *PROBES["sql"]]
        assert values[0] == {"type": "scan_started", "agents": ["xss", "sql"], "probes": 4}
        assert values[1:-1] == [
            {"type": "probe_result", "agent": "xss" if name in PROBES["xss"] else "sql"}
            | {"probe_name": name, "status": "fail"}
            for name in names
        ]
        assert (values[-1]["status"], values[-1]["failed"]) == ("completed", names)
        for instance in app.instances:
            async with httpx.AsyncClient(base_url=instance, timeout=patient(20)) as direct:
                custom, debug = [await Scan().view(direct, values.id, mode) for mode in ("custom", "debug")]
                assert await Scan().view(direct, values.id, "values") == values
            of_state = [{k: v for k, v in event.items() if k != "_mode"} for event in debug if "_mode" in event]
            assert {event["_mode"] for event in debug if "_mode" in event} == {"state"}
            assert of_state == values[:-1]
            assert [event for event in debug if "_mode" not in event] == custom
            # Behind any event of it comes exactly the rest.
            for seen in (1, 3):
                cut = Scan(values[:seen])
                async with httpx.AsyncClient(base_url=instance, timeout=patient(20)) as direct:
                    query = {"stream_mode": "values"}
                    ids = await ids_of(direct, values.id, query)
                    cut.last = ids[seen - 1]
                    assert await cut.read(direct, body, "values") == values


async def ids_of(client: httpx.AsyncClient, scan_id: str, query: dict[str, str]) -> list[str]:
    text = (await client.get(f"{PATH}/stream/{scan_id}", params=query)).text
    blocks = [block.splitlines() for block in text.split("\n\n") if "data: " in block]
    return [next(line.removeprefix("id: ") for line in block if line.startswith("id: ")) for block in blocks]


async def what_fails(client: httpx.AsyncClient, target: str, nowhere: str) -> None:
    """A graph whose node raises is told in a log of level error, and then the ending."""
    for mode in ("custom", "values", "debug"):
        failed = await Scan().read(client, {"target_url": nowhere}, mode)
        log, end = failed
        assert (log["type"], log["level"]) == ("log", "error")
        assert log["message"].startswith(f"Scan failed: {nowhere} cannot be reached")
        assert end == {"type": "scan_ended", "status": "failed"}
    # It has left a checkpoint, and the target is still not there.
    again = await Scan().read(client, {"resume": failed.id})
    assert again[-1]["status"] == "failed"
    assert target != nowhere


async def what_is_wrong(client: httpx.AsyncClient, target: str) -> None:
    """A status before the stream, which names the field."""
    good = {"target_url": target}
    for body, field, why in (
        ({"target_url": "http://169.254.169.254/"}, "target_url", "SCAN_TARGETS"),
        ({"target_url": target.replace("127.0.0.1", "localhost")}, "target_url", "SCAN_TARGETS"),
        ({"target_url": target.replace("http://", "http://127.0.0.1@")}, "target_url", "user name"),
        ({"target_url": "file:///etc/passwd"}, "target_url", "http"),
        ({"target_url": "not a url"}, "target_url", ""),
        ({"target_url": "http://[::1"}, "target_url", ""),
        ({"target_url": 7}, "target_url", ""),
        ({**good, "agent_types": ["smtp"]}, "agent_types.0", "sql, auth, xss, redirect"),
        ({**good, "agent_types": []}, "agent_types", ""),
        ({**good, "agent_types": "sql"}, "agent_types", ""),
        ({**good, "checkpoint": "disk"}, "checkpoint", "persistent"),
        ({**good, "campaign_id": "x" * 129}, "campaign_id", "128"),
    ):
        refused = await client.post(f"{PATH}/stream", json=body)
        assert (refused.status_code, refused.json()["field"]) == (422, field), (body, refused.text)
        assert why in refused.json()["detail"], (body, refused.text)
    for neither in ({}, {**good, "resume": "x"}):
        refused = await client.post(f"{PATH}/stream", json=neither)
        assert refused.status_code == 422
        assert "either a target_url or a scan to resume" in refused.json()["detail"]
    mode = await client.post(f"{PATH}/stream", params={"stream_mode": "updates"}, json=good)
    assert (mode.status_code, mode.json()["field"]) == (422, "stream_mode")
    assert all(each in mode.json()["detail"] for each in ("values", "custom", "debug"))
    large = await client.post(f"{PATH}/stream", json={**good, "campaign_id": "x" * 10_000_000})
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    for given, status in (("nonsense", 400), ("nowhere:1-1", 404)):
        back = await client.post(f"{PATH}/stream", json=good, headers={"Last-Event-ID": given})
        assert back.status_code == status, given
    assert (await client.post(f"{PATH}/stream", json={"resume": "nowhere"})).status_code == 404
    for method, path in (("GET", "stream/nowhere"), ("GET", "nowhere"), ("POST", "nowhere/cancel")):
        assert (await client.request(method, f"{PATH}/{path}")).status_code == 404
    completed = await Scan().read(client, {**good, "agent_types": ["xss"]})
    refused = await client.post(f"{PATH}/stream", json={"resume": completed.id})
    assert (refused.status_code, "completed" in refused.json()["detail"]) == (409, True)


async def a_cancel_and_its_resumption(app: Application, client: httpx.AsyncClient, target: str) -> None:
    """Cancelled over one instance while another shows it; what was probed before is not probed again."""
    before = await asked(target)
    scan = Scan()
    body = {"target_url": target}
    async with httpx.AsyncClient(base_url=app.instances[0], timeout=patient(20)) as first:
        with held(target, after=3):
            reading = asyncio.create_task(scan.read(first, body))
            await eventually(lambda: has_results(scan, 2))
            async with httpx.AsyncClient(base_url=app.instances[1], timeout=patient(20)) as second:
                refused = await second.post(f"{PATH}/stream", json={"resume": scan.id})
                assert refused.status_code == 409
                cancelled = await second.post(f"{PATH}/{scan.id}/cancel")
                assert cancelled.status_code == 202
                await reading
    assert scan[-1] == {"type": "scan_ended", "status": "cancelled"}
    done = [event["data"]["probe_name"] for event in scan.results()]
    assert done == NAMES[:2]
    rest = await Scan().read(client, {"resume": scan.id})
    again = [event["data"]["probe_name"] for event in rest.results()]
    assert done + again == NAMES
    assert (rest[-1]["status"], rest[-1]["probes"], rest[-1]["failed"]) == ("completed", len(NAMES), FAILED)
    assert await asked(target) - before <= len(NAMES) + 3
    for checkpoint in ("memory", "none"):
        with held(target):
            lost = Scan()
            reading = asyncio.create_task(lost.read(client, {**body, "checkpoint": checkpoint}))
            await eventually(partial(has_begun, lost))
            await client.post(f"{PATH}/{lost.id}/cancel")
            await reading
        refused = await client.post(f"{PATH}/stream", json={"resume": lost.id})
        assert (refused.status_code, "no checkpoint" in refused.json()["detail"]) == (409, True)


async def deaths(app: Application, client: httpx.AsyncClient, target: str) -> None:
    """The instance that serves the stream is killed, and the worker."""
    before = await asked(target)
    scan = Scan()
    with held(target, after=4):
        reading = asyncio.create_task(scan.read(client, {"target_url": target}))
        await eventually(lambda: has_results(scan, 3))
        app.kill_instance(app.serving(scan.port))
        app.kill_workers()
        app.new_worker()
    await reading
    assert scan.opened == 2
    names = [event["data"]["probe_name"] for event in scan.results()]
    assert names == NAMES
    (log,) = [event for event in scan if event["type"] == "log"]
    assert (log["level"], "checkpoint" in log["message"]) == ("warning", True)
    assert (scan[-1]["status"], scan[-1]["failed"]) == ("completed", FAILED)
    # What was done is not done again, but for what was in flight.
    assert await asked(target) - before <= len(NAMES) + 3
    assert (await client.get(f"{PATH}/{scan.id}")).json()["attempt"] == 2


async def has_results(scan: Scan, count: int) -> bool:
    """So many probes are over."""
    return len(scan.results()) >= count


async def has_begun(scan: Scan) -> bool:
    """It is there, and has an id."""
    return hasattr(scan, "id")


async def asked(target: str) -> int:
    async with httpx.AsyncClient() as client:
        return sum((await client.get(f"{target}/asked")).json().values())


@contextmanager
def held(target: str, after: int = 0) -> Iterator[None]:
    """The target answers nobody, but for the next so many requests."""
    httpx.get(f"{target}/hold", params={"after": after}).raise_for_status()
    try:
        yield
    finally:
        httpx.get(f"{target}/release").raise_for_status()


@contextmanager
def shop() -> Iterator[str]:
    port = free_port()
    with subprocess.Popen([sys.executable, "target.py", "--port", str(port)], cwd=EXAMPLES / "scan") as process:
        try:
            wait_until(lambda: _answers(f"http://127.0.0.1:{port}/asked"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False
