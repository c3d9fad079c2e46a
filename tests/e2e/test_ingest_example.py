"""examples/ingest, driven from outside over HTTP, while its processes are killed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import httpx
import pytest
from redis import Redis

from tests.chromium import page
from tests.e2e.application import Application, application
from tests.e2e.ingests import Event, Ingest, Watching, events_of, held, ingest, sources, watching
from tests.e2e.waiting import eventually
from tests.patience import patient
from tests.servers import RunningServer, free_port

pytestmark = pytest.mark.anyio

STEPS: Final = [
    *("extracting_id", "extracted_id", "checking_cache", "fetching_transcript", "transcript_fetched"),
    *("archiving", "archived", "storing", "stored"),
]
BEFORE_FETCHED: Final = STEPS[:4]


async def test_the_ingest_application(fresh_server: RunningServer, tmp_path: Path) -> None:
    # Named by the operator, and nobody listens there.
    nowhere = f"http://127.0.0.1:{free_port()}"
    with sources() as source:
        environment = {
            "INGEST_ORIGINS": f"{source},{nowhere}",
            "INGEST_DIR": str(tmp_path / "library"),
            "INGEST_HEARTBEAT_SECONDS": "1",
            "INGEST_FETCH_SECONDS": str(patient(10)),
        }
        with application("ingest", "ingest:registry", fresh_server, tmp_path, **environment) as (app, url):
            async with httpx.AsyncClient(base_url=url, timeout=patient(20)) as client, asyncio.timeout(patient(90)):
                await its_stream(client, source)
                await a_second_time(app, client, source)
                await a_document_that_is_sent(client)
                await a_channel(client, source)
                await what_was_ingested(app, client)
                await two_at_once(app, client, source)
                await its_stats(app, client, source)
                await its_agents(app, client, source)
                await what_cannot_be_ingested(client, source, nowhere)
                await what_is_wrong(client, source)
                await coming_back(app, client, source)
                await events_are_lost(fresh_server, client, source)
                await its_page(url, source, tmp_path)
                await deaths(app, client, source)


async def its_stream(client: httpx.AsyncClient, source: str) -> None:
    """The seed's own request."""
    async with client.stream("POST", "/ingest/stream", json={"url": f"{source}/watch?v=abc123"}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].split(";")[0] == "text/event-stream"
        for header, value in (
            ("cache-control", "no-cache"),
            ("x-accel-buffering", "no"),
            ("access-control-allow-origin", "*"),
        ):
            assert response.headers.get_list(header) == [value]
        events = Ingest([event async for event in events_of(response)])
    assert events.steps == STEPS
    told = {event.data["step"]: event.data for event in events[:-1]}
    assert all({"step", "message"} <= data.keys() and data["message"] for data in told.values())
    assert (told["extracted_id"]["id"], told["extracted_id"]["type"]) == ("abc123", "video")
    length = len("This is what is said in the video abc123. " * 100)
    assert told["transcript_fetched"]["transcript_length"] == length
    assert told["transcript_fetched"]["message"] == f"Text fetched ({length:,} chars)"
    assert len({event.id for event in events}) == len(events)
    assert (events.complete["type"], events.complete["status"]) == ("video", "success")
    details = events.complete["details"]
    assert (details["id"], details["length"]) == ("abc123", length)
    assert details["archive"] == told["archived"]["archive"]


async def a_second_time(app: Application, client: httpx.AsyncClient, source: str) -> None:
    """On whichever instance, and however its URL is written: it is skipped, and not fetched again."""
    for instance, more in zip(app.instances, ("", "&t=10#end"), strict=True):
        async with httpx.AsyncClient(base_url=instance, timeout=patient(20)) as direct:
            again = await ingest(direct, f"{source}/watch?v=abc123{more}")
        assert again.steps == STEPS[:3]
        assert (again.complete["type"], again.complete["status"]) == ("video", "skipped")
        assert again.complete["details"]["id"] == "abc123"
    assert (await client.get(f"{source}/asked")).json()["/watch?v=abc123"] == 1
    article = await ingest(client, f"{source}/article")
    assert article.steps == STEPS
    assert (article.complete["type"], article.complete["status"]) == ("article", "success")


async def a_document_that_is_sent(client: httpx.AsyncClient) -> None:
    for body, status in (
        ({"title": "Notes", "text": "to be or not to be"}, "success"),
        ({"title": "The same", "text": "to be or not to be"}, "skipped"),
    ):
        sent = await Ingest().read(client, {"document": body})
        assert (sent.complete["type"], sent.complete["status"]) == ("document", status)
        assert sent.steps == (STEPS if status == "success" else STEPS[:3])


async def a_channel(client: httpx.AsyncClient, source: str) -> None:
    """With each limit of the seed; what a smaller one has brought, a larger one skips."""
    for name, limit, success, skipped in (
        ("ages", "month", 3, 0),
        ("ages", "year", 2, 3),
        ("ages", "all", 1, 5),
        ("many", "50", 50, 0),
        ("many", "100", 50, 50),
    ):
        whole = await ingest(client, f"{source}/channel/{name}", channel_limit=limit)
        assert (whole.complete["type"], whole.complete["status"]) == ("channel", "success")
        details = whole.complete["details"]
        assert (details["limit"], details["success"], details["skipped"], details["error"]) == (
            limit,
            success,
            skipped,
            0,
        )
        assert whole.steps[:4] == ["extracting_id", "extracted_id", "fetching_list", "list_fetched"]
        items = [event.data["item"] for event in whole if event.data.get("step") == "stored"]
        assert len(items) == success
        assert all(1 <= item <= success + skipped for item in items)
    again = await ingest(client, f"{source}/channel/ages", channel_limit="all")
    assert again.complete["status"] == "skipped"
    broken = await ingest(client, f"{source}/channel/broken", channel_limit="all")
    assert broken.complete["status"] == "success"
    assert (broken.complete["details"]["success"], broken.complete["details"]["error"]) == (2, 1)
    assert "404" in broken.complete["details"]["errors"][0]
    assert broken.steps.count("item_failed") == 1


async def what_was_ingested(app: Application, client: httpx.AsyncClient) -> None:
    """The list is the same on both instances; 110 documents are there by now, all of them of this month."""
    everything = (await client.get("/ingest?limit=all")).json()
    assert everything["count"] == len(everything["documents"]) == 111
    assert everything["documents"][0].keys() == {"id", "type", "source", "length", "ingested_at"}
    times = [document["ingested_at"] for document in everything["documents"]]
    assert times == sorted(times, reverse=True)
    for instance in app.instances:
        for limit, count in (("month", 111), ("year", 111), ("50", 50), ("100", 100), ("all", 111)):
            listed = (await client.get(f"{instance}/ingest?limit={limit}")).json()
            assert listed == {"limit": limit, "count": count, "documents": everything["documents"][:count]}
    assert (await client.get("/ingest")).json()["limit"] == "50"
    refused = await client.get("/ingest?limit=week")
    assert (refused.status_code, refused.json()["field"]) == (422, "limit")


async def two_at_once(app: Application, client: httpx.AsyncClient, source: str) -> None:
    """Of one document, on two instances: both watch the one ingest."""
    with held(source):
        reading = []
        for instance in app.instances:
            async with httpx.AsyncClient(base_url=instance) as direct:
                shown = Ingest()
                body = {"url": f"{source}/watch?v=both"}
                async with direct.stream("POST", "/ingest/stream", json=body) as response:
                    shown.id = response.headers["x-ingest-id"]
                reading.append(shown)
        assert reading[0].id == reading[1].id
    watched = await client.get(f"/ingest/stream/{reading[0].id}")
    assert watched.text.count("event: complete") == 1
    assert (await client.get(f"{source}/asked")).json()["/watch?v=both"] == 1


async def its_stats(app: Application, client: httpx.AsyncClient, source: str) -> None:
    """Active ingests count on every instance, and those that watch are told of each change."""
    before = (await client.get("/stats")).json()
    assert before.keys() == {"processing_count", "complete", "by_status", "active_ingests", "documents"}
    assert (before["processing_count"], before["active_ingests"], before["complete"]) == (0, [], True)
    async with (
        watching(client, f"{app.instances[0]}/stats/stream") as one,
        watching(client, f"{app.instances[1]}/stats/stream") as other,
    ):
        with held(source):
            running = [asyncio.create_task(ingest(client, f"{source}/watch?v=counted{n}")) for n in range(2)]

            async def are_counted() -> bool:
                """Both streams say that two are active, and running."""
                return all(seen and seen[-1].data["by_status"]["running"] == 2 for seen in (one, other))

            await eventually(are_counted)
            for instance in app.instances:
                now = (await client.get(f"{instance}/stats")).json()
                assert now["processing_count"] == 2
                shown = {(each["type"], each["source"], each["status"]) for each in now["active_ingests"]}
                assert shown == {("video", f"{source}/watch?v=counted{n}", "running") for n in range(2)}
                assert all(each.keys() >= {"id", "submitted_at"} for each in now["active_ingests"])
        for task in running:
            assert (await task).complete["status"] == "success"

        async def is_over() -> bool:
            """Both streams say that none is active, and that two documents more are there."""
            documents = before["documents"] + 2
            return all(
                (seen[-1].data["processing_count"], seen[-1].data["documents"]) == (0, documents)
                for seen in (one, other)
            )

        await eventually(is_over)
        assert {event.name for event in (*one, *other)} == {"stats"}


async def its_agents(app: Application, client: httpx.AsyncClient, source: str) -> None:
    """Watched on one instance, whoever asks for the ingest and whoever runs it; filtered by type and by id."""
    paths = ("/agents/stream", "/agents/stream?agent_type=fetcher,archivist", "/agents/stream?agent_id=nobody")
    async with (
        watching(client, f"{app.instances[0]}{paths[0]}") as everything,
        watching(client, f"{app.instances[1]}{paths[1]}") as some,
        watching(client, f"{app.instances[1]}{paths[2]}") as none,
    ):
        done = await Ingest().read(client, {"url": f"{source}/watch?v=agents"})
        coordinator = f"coordinator_{done.id}"

        async def is_over() -> bool:
            """The coordinator has said that it is done, and both instances have said twice that they live."""
            alive = [event.data["source_id"] for event in none if event.name == "heartbeat"]
            ended = any(
                (event.data["event"], event.data["payload"]["agent_name"]) == ("completed", "coordinator")
                for event in everything
            )
            return ended and len(some) > 4 and len(set(alive)) == 2 and len(alive) >= 4

        await eventually(is_over)
    for event in (*everything, *some, *none):
        assert event.data.keys() == {"stream", "source_id", "event", "timestamp", "payload"}
        assert event.data["payload"].keys() == {"agent_name", "status", "message", "progress"}
        assert event.data["stream"] == "agent"
        assert event.data["timestamp"].endswith("Z")
        assert (event.name == "heartbeat") == (event.data["event"] == "heartbeat")
    assert {event.name for event in none} == {"heartbeat"}

    def acts(seen: Watching) -> list[tuple[str, str]]:
        told = [event.data for event in seen if event.name == "activity" and event.data["source_id"] == coordinator]
        return [(data["payload"]["agent_name"], data["event"]) for data in told]

    assert acts(some) == [(name, event) for name in ("fetcher", "archivist") for event in ("started", "completed")]
    whole = acts(everything)
    assert (whole[0], whole[-1]) == (("coordinator", "started"), ("coordinator", "completed"))
    assert whole.count(("coordinator", "progress")) == len(STEPS)
    progress = [event.data["payload"]["progress"] for event in everything if event.data["event"] == "progress"]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    # Behind any event of it, by its id alone and on the other instance, comes exactly the rest; with a filter, too.
    for path, rest in (
        (paths[0], everything[1:]),
        (f"{paths[0]}?agent_id={coordinator}", [e for e in everything[1:] if e.data["source_id"] == coordinator]),
    ):
        resumed = f"{app.instances[1]}{path}"
        async with watching(client, resumed, **{"Last-Event-ID": everything[0].id or ""}) as seen:

            async def is_there(seen: Watching = seen, rest: list[Event] = rest) -> bool:
                return len([event for event in seen if event.name == "activity"]) >= len(
                    [event for event in rest if event.name == "activity"]
                )

            await eventually(is_there)
            shown = [event for event in rest if event.name == "activity"]
            assert [event for event in seen if event.name == "activity"] == shown


async def what_cannot_be_ingested(client: httpx.AsyncClient, source: str, nowhere: str) -> None:
    """One ``complete`` of status error says why; the next try is not stopped by it, and nothing is in the list."""
    before = (await client.get("/stats")).json()["documents"]
    for url, why in (
        (f"{nowhere}/article", "cannot be reached"),
        (f"{source}/gone", "404"),
        (f"{source}/image", "image/png"),
        (f"{source}/binary", "not UTF-8"),
        (f"{source}/nul", "control characters"),
        (f"{source}/empty", "is empty"),
        (f"{source}/large", "larger than"),
        (f"{source}/elsewhere", "302"),
    ):
        for _ in range(2):
            failed = await ingest(client, url)
            assert failed.steps == BEFORE_FETCHED
            assert (failed.complete["type"], failed.complete["status"]) == ("article", "error")
            assert why in failed.complete["message"], failed.complete
            assert failed.complete["details"]["reason"]
    unlisted = await ingest(client, f"{nowhere}/channel/x")
    assert (unlisted.complete["type"], unlisted.complete["status"]) == ("channel", "error")
    assert (await client.get("/stats")).json()["documents"] == before


async def what_is_wrong(client: httpx.AsyncClient, source: str) -> None:
    """A status before the stream, which names the field."""
    path, kind = "/ingest/stream", {"Content-Type": "application/json"}
    video = f"{source}/watch?v=x"
    for body, field, why in (
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url", "INGEST_ORIGINS"),
        ({"url": video.replace("127.0.0.1", "localhost")}, "url", "INGEST_ORIGINS"),
        ({"url": source.replace("http://", "http://127.0.0.1@") + "/article"}, "url", "user name"),
        ({"url": "file:///etc/passwd"}, "url", "http"),
        ({"url": "not a url"}, "url", ""),
        ({"url": "http://[::1"}, "url", ""),
        ({"url": f"{source}/watch"}, "url", "video id"),
        ({"url": f"{source}/channel/"}, "url", "channel name"),
        ({"url": f"{source}/{'x' * 2000}"}, "url", "2000"),
        ({"url": 7}, "url", ""),
        ({"url": video, "channel_limit": "week"}, "channel_limit", "month"),
        ({"document": {"text": " "}}, "document.text", "empty"),
        ({"document": {"text": "a\x00b"}}, "document.text", "not text"),
        ({"document": {"text": {}}}, "document.text", ""),
        ({"document": "text"}, "document", ""),
        ({"document": {"text": "x", "title": "a\nb"}}, "document.title", "printable"),
    ):
        refused = await client.post(path, content=json.dumps(body), headers=kind)
        assert (refused.status_code, refused.json()["field"]) == (422, field), (body, refused.text)
        assert why in refused.json()["detail"], (body, refused.text)
    for neither in ({}, {"url": video, "document": {"text": "x"}}):
        refused = await client.post(path, json=neither)
        assert refused.status_code == 422
        assert "either a url or a document" in refused.json()["detail"]
    for content, status in (("", 422), ("no", 422), ("[]", 422), (b"\xff\xfe", 422)):
        assert (await client.post(path, content=content, headers=kind)).status_code == status
    large = await client.post(path, json={"document": {"text": "x" * 10_000_000}})
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    for given, status in (("nonsense", 400), ("nowhere:1-1", 404), ("agents:1-1", 404)):
        back = await client.post(path, json={"url": video}, headers={"Last-Event-ID": given})
        assert back.status_code == status, given
    for unknown in ("nowhere", "agents"):
        assert (await client.get(f"{path}/{unknown}")).status_code == 404


async def coming_back(app: Application, client: httpx.AsyncClient, source: str) -> None:
    """On either instance, behind any event: exactly the rest."""
    whole = await ingest(client, f"{source}/watch?v=back")
    body = {"url": f"{source}/watch?v=back"}
    for instance in app.instances:
        async with httpx.AsyncClient(base_url=instance, timeout=patient(20)) as direct:
            for seen in (1, 4, len(whole) - 1):
                assert await Ingest(whole[:seen]).read(direct, body) == whole
            async with direct.stream("GET", f"/ingest/stream/{whole.id}") as response:
                assert [event async for event in events_of(response)] == whole
            last = {"Last-Event-ID": whole[-1].id or ""}
            assert (await direct.post("/ingest/stream", json=body, headers=last)).status_code == 204


async def events_are_lost(server: RunningServer, client: httpx.AsyncClient, source: str) -> None:
    """A viewer of whose steps some have been trimmed is told so, and gets its one ending all the same."""
    whole = await ingest(client, f"{source}/watch?v=lost")

    async def what_is_left() -> list[Event]:
        async with client.stream("GET", f"/ingest/stream/{whole.id}") as response:
            return [event async for event in events_of(response)]

    with Redis.from_url(server.url) as redis:
        redis.xtrim(f"tr:{{{whole.id}}}:log", maxlen=1, approximate=False)
        told, ending = await what_is_left()
        assert (told.name, told.data["step"], told.data["reason"]) == ("progress", "lost", "trimmed")
        assert ending == whole[-1]
        redis.delete(f"tr:{{{whole.id}}}:log")
        ending = (await what_is_left())[-1]
        assert (ending.name, ending.data["status"], ending.data["details"]) == (
            "complete",
            "error",
            {"reason": "expired"},
        )


async def its_page(url: str, source: str, directory: Path) -> None:
    async with page(f"{url}/", directory) as browser:
        await browser.evaluate(f"document.getElementById('url').value = '{source}/watch?v=page'")
        await browser.evaluate("document.querySelector('#ask button').click()")
        await browser.until("document.getElementById('status').textContent.startsWith('success')")
        assert await browser.evaluate("document.getElementById('steps').children.length") == len(STEPS)
        await browser.until("document.getElementById('agents').textContent.includes('coordinator completed')")
        await browser.until("Number(document.getElementById('documents').textContent) > 100")
        await browser.evaluate("document.querySelector('#ask button').click()")
        await browser.until("document.getElementById('status').textContent.startsWith('skipped')")
        assert browser.errors == []


async def deaths(app: Application, client: httpx.AsyncClient, source: str) -> None:
    """The instance that serves the stream is killed, and the worker: what is done again says so."""
    viewer = Ingest()
    body = {"url": f"{source}/watch?v=survivor"}
    with held(source):
        reading = asyncio.create_task(viewer.read(client, body))

        async def is_fetching() -> bool:
            return viewer.steps == BEFORE_FETCHED

        await eventually(is_fetching)
        serving = app.serving(viewer.port)
        app.kill_instance(serving)
        app.kill_workers()
        app.new_worker()
    events = await reading
    assert events.opened == 2
    # What was under way begins again on the other worker; what had been kept does not.
    assert events.steps == [*BEFORE_FETCHED, *STEPS[3:]]
    assert [event.data.get("attempt") for event in events[:-1]] == [None] * 4 + [2] * 6
    assert len({event.id for event in events}) == len(events)
    assert (events.complete["type"], events.complete["status"]) == ("video", "success")
    async with httpx.AsyncClient(base_url=app.instances[1 - serving], timeout=patient(20)) as other:
        assert await Ingest(events[:1]).read(other, body) == events
        assert (await other.get("/stats")).json()["processing_count"] == 0
        assert (await ingest(other, body["url"])).complete["status"] == "skipped"
    app.start_instance(serving)
    await asyncio.to_thread(app.await_ready)
