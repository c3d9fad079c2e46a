from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tailrace.bus import START, Cursor, Entry, Gap
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.reading import Page
from tailrace.bus.queries.page import PageDocument
from tailrace.gateway.http.schemas import EventPage


def entry(n: int, data: bytes = b'{"x":1}') -> Entry:
    return Entry(Cursor(1000, n), "custom.e", None, "2026-01-01T00:00:00.000000Z", data)


def hole(after: int, then: int) -> Gap:
    return Gap(Cursor(1000, after), Cursor(1000, then), Cursor(1000, then), "hole")


def bite(*items: Entry | Gap, more: bool = False, ended: bool = False, at: Cursor | None = None) -> Page:
    entries = [item for item in items if isinstance(item, Entry)]
    return Page(list(items), Numbering(at or entries[-1].cursor, None), more, ended)


def document(limit: int = 10, max_bytes: int = 1_000_000) -> PageDocument:
    return PageDocument("e1", START, limit, max_bytes)


def shown(page: PageDocument) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(page.render({"next": None if page.ended else str(page.next)}))
    EventPage.model_validate(body)
    return body


def test_a_page_collects_bites_until_the_log_has_no_more() -> None:
    page = document()
    assert page.take(bite(entry(1), entry(2), more=True))
    assert not page.take(bite(entry(3)))
    body = shown(page)
    assert [item["id"] for item in body["items"]] == ["1000-1", "1000-2", "1000-3"]
    assert (body["next"], body["more"], body["ended"]) == ("1000-3", False, False)
    assert body["links"]["next"] == "1000-3"
    assert "gap" not in body


def test_an_ended_log_has_no_next_page() -> None:
    page = document()
    page.take(bite(entry(1), ended=True))
    assert (shown(page)["ended"], shown(page)["links"]["next"]) == (True, None)


def test_a_gap_comes_first() -> None:
    page = document()
    page.take(bite(Gap(Cursor(1, 1), Cursor(1000, 5), Cursor(1000, 5), "trimmed"), entry(5)))
    assert shown(page)["gap"] == {"requested": "1-1", "earliest": "1000-5", "latest": "1000-5", "reason": "trimmed"}


def test_a_gap_in_the_middle_begins_the_next_page() -> None:
    page = document()
    assert not page.take(bite(entry(1), hole(1, 4), entry(4), ended=True))
    body = shown(page)
    assert [item["id"] for item in body["items"]] == ["1000-1"]
    assert (body["next"], body["more"], body["ended"]) == ("1000-1", True, False)


def test_a_gap_before_nothing_moves_the_cursor_to_where_reading_goes_on() -> None:
    page = document()
    page.take(bite(Gap(Cursor(9, 9), Cursor(5, 1), Cursor(5, 1), "rewound"), at=Cursor(5, 1)))
    assert shown(page)["next"] == "5-1"


def test_a_page_that_is_heavy_enough_ends_there() -> None:
    heavy = b'"' + b"x" * 1000 + b'"'
    page = document(limit=100, max_bytes=2000)
    assert not page.take(bite(*(entry(n, heavy) for n in range(1, 50))))
    body = shown(page)
    assert (len(body["items"]), body["more"]) == (2, True)
    assert body["next"] == "1000-2"


def test_one_entry_over_the_weight_is_still_shown() -> None:
    page = document(max_bytes=10)
    page.take(bite(entry(1), entry(2)))
    assert len(shown(page)["items"]) == 1


@given(st.sets(st.integers(1, 60)), st.integers(1, 7), st.integers(1, 400), st.integers(1, 9))
def test_pages_put_together_are_the_log_and_tell_every_hole(
    kept: set[int], limit: int, size: int, bite_size: int
) -> None:
    log = sorted(kept)
    at, seen, told = 0, [], []
    for _ in range(len(log) + len(log) + 2):
        page = PageDocument("e1", Cursor(1000, at), limit, size)
        while True:
            position = int(str(shown(page)["next"]).split("-")[1])
            rest = [n for n in log if n > position][: min(bite_size, page.missing)]
            items: list[Entry | Gap] = []
            for n in rest:
                if n != position + 1:
                    items.append(hole(position, n))
                items.append(entry(n))
                position = n
            more = any(n > position for n in log)
            if not page.take(bite(*items, more=more, at=Cursor(1000, position))):
                break
        body = shown(page)
        if "gap" in body:
            told.append(body["gap"]["earliest"])
        seen += [item["id"] for item in body["items"]]
        at = int(body["next"].split("-")[1])
        if not body["more"]:
            break
    assert seen == [f"1000-{n}" for n in log]
    assert told == [f"1000-{n}" for n in log if n > 1 and n - 1 not in kept]
