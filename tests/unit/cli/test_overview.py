from __future__ import annotations

from typing import Any

from tailrace.cli.actions.show import Overview, lines_of

NOW = 1767323045.678  # 2026-01-02T03:04:05.678Z


def state(**more: Any) -> dict[str, Any]:
    return {
        "execution_id": "build-7",
        "status": "running",
        "pipeline": "document",
        "tenant": None,
        "owner": "host-1",
        "attempt": 1,
        "created": "2026-01-02T03:00:00.000000Z",
        "started": "2026-01-02T03:00:01.000000Z",
        "ended": None,
        "entries": 7,
        "first": "1-1",
        "last": "1-7",
        "terminal": None,
        "checkpoints": [],
        **more,
    }


def shown(state_: dict[str, Any], requests: list[dict[str, Any]] | None = None, page: Any = None) -> str:
    return "\n".join(lines_of(Overview(state_, requests or [], page or {"items": []}), NOW))


def test_what_is_not_there_has_no_line() -> None:
    assert shown(state(owner=None, pipeline=None, started=None)).splitlines() == [
        "execution   build-7",
        "status      running",
        "created     2026-01-02T03:00:00.000000Z, 4m05s ago",
        "events      7, in the log 1-1 to 1-7",
    ]


def test_why_it_ended_stands_beside_how() -> None:
    data = {"reason": "worker_lost", "message": "nobody\x1b is left"}
    ended = state(status="failed", attempt=3, terminal={"id": "1-7", "type": "execution.failed", "data": data})
    assert "status      failed, attempt 3: worker_lost; nobody\\x1b is left" in shown(ended).splitlines()


def test_an_ending_without_words_is_just_told() -> None:
    for data in (None, {}, {"result": 5}, "odd"):
        ended = state(status="cancelled", terminal={"id": "1-7", "type": "execution.cancelled", "data": data})
        assert "status      cancelled" in shown(ended).splitlines()


def test_an_expired_log_is_told() -> None:
    assert "events      7, none in the log any more" in shown(state(first=None, last=None))


def test_a_request_that_nobody_has_answered_stands_out() -> None:
    asked = {"id": "1-6", "type": "execution.cancel_requested", "ts": "2026-01-02T03:04:00.000000Z"}
    signal = {**asked, "type": "execution.signal_requested", "name": "go", "data": {"n": 1}, "by": "ana"}
    text = shown(state(), [{**asked, "reason": "wrong\ninput", "answered": False}, {**signal, "answered": True}])
    assert text.splitlines()[-3:] == [
        "requests",
        "  03:04:00.000 cancel   'wrong\\ninput' (NOT ANSWERED YET)",
        '  03:04:00.000 signal   go {"n": 1} by ana (answered)',
    ]


def test_the_newest_events_and_what_is_missing_before_them_come_last() -> None:
    event = {"id": "1-7", "type": "log", "ts": "2026-01-02T03:04:05.000000Z", "data": {"text": "hello"}}
    gap = {"requested": "1-2", "earliest": "1-7", "latest": "1-7", "reason": "trimmed"}
    lines = shown(state(checkpoints=["fetch", "parse"]), page={"items": [event], "gap": gap}).splitlines()
    assert lines[-4] == "checkpoints fetch, parse"
    assert lines[-3] == "last events"
    assert "events are missing here (trimmed)" in lines[-2]
    assert lines[-1] == "  03:04:05.000 log                  hello"
