"""Pages are read once for many: bounded in bytes, and never taken for more than they were when they were read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry, Gap
from tailrace.bus.model.reading import Page
from tailrace.gateway.hub.pages import FIRST_PAGE_ENTRIES, PAGE_BYTES, PAGE_ENTRIES, Pages, RenderedPage, bounded
from tailrace.gateway.hub.topic import Topic
from tailrace.gateway.hub.viewer import Stage, Viewer
from tailrace.gateway.wire.formats import SSE, Message


def entry(n: int, size: int = 10) -> Entry:
    return Entry(Cursor(1000, n), "custom.x", None, "t", b'"' + b"x" * size + b'"')


class OpenSink:
    def __init__(self) -> None:
        self.got = b""

    def write(self, message: Message) -> bool:
        self.got += message["body"]
        return True

    def finish(self, message: Message) -> bool:
        return self.write(message)

    def unsent_bytes(self) -> int:
        return 0

    def send_away(self, message: Message) -> None:
        self.write(message)

    def cut(self) -> None:
        raise AssertionError("not expected")


class Ports:
    def __init__(self) -> None:
        self.deliveries = 0
        self.asked: list[Viewer] = []

    def read_page(self, _: Topic, viewer: Viewer) -> None:
        self.asked.append(viewer)

    def later(self, _: int, __: Callable[[], None]) -> NoReturn:
        raise AssertionError("not expected")

    def now(self) -> float:
        return 0.0

    def count(self, name: str, amount: int = 1) -> None:
        pass


def test_a_page_that_was_read_before_a_burst_is_not_taken_for_the_end_of_the_log() -> None:
    ports = Ports()
    topic = Topic("x", START, ports, max_entries=6, max_bytes=10**9)
    before = [entry(n) for n in range(1, 4)]
    old = RenderedPage("x", Page(list(before), Numbering.after(before[-1].cursor)), 0.0)
    topic.news(before)
    # The window lets go of what came first.
    topic.news([entry(n) for n in range(4, 30)])
    viewer = Viewer(OpenSink(), SSE, Numbering.after(START))
    topic.join(viewer)
    assert ports.asked.pop() is viewer
    topic.page(viewer, old)
    assert viewer.stage is Stage.REPLAYING
    assert ports.asked == [viewer]


def test_a_viewer_at_the_end_of_a_log_that_shrank_waits_for_news() -> None:
    ports = Ports()
    topic = Topic("x", Cursor(1000, 50), ports, max_entries=6, max_bytes=10**9)
    viewer = Viewer(OpenSink(), SSE, Numbering.after(Cursor(1000, 3)))
    topic.join(viewer)
    topic.page(ports.asked.pop(), RenderedPage("x", Page([], Numbering.after(Cursor(1000, 3))), 0.0))
    assert viewer.stage is Stage.WAITING
    assert ports.asked == []


def test_a_page_is_cut_after_the_entry_that_fills_it_and_says_that_there_is_more() -> None:
    gap = Gap(Cursor(1, 1), Cursor(1000, 1), Cursor(1000, 5), "trimmed")
    page = Page([gap, *(entry(n, 50) for n in range(1, 6))], Numbering.after(Cursor(1000, 5)), ended=True)
    cut = bounded(page, 900)
    assert cut.items == page.items[:3]
    assert (cut.position.cursor, cut.more, cut.ended) == (Cursor(1000, 2), True, False)


@pytest.mark.parametrize("entries", [0, 1, 2])
def test_a_page_that_fits_stays_as_it_is_and_one_entry_is_always_given(entries: int) -> None:
    page = Page([entry(n, 50) for n in range(1, entries + 1)], Numbering.after(Cursor(1000, 2)), ended=True)
    assert bounded(page, 10_000) is page
    if entries:
        assert len(bounded(page, 1).items) == 1


class LogOf:
    """Answers with entries of one size, and notes how many were asked for."""

    of_executions = False

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[int] = []

    async def read(self, _: str, position: Numbering, count: int) -> Page:
        self.asked.append(count)
        first = position.cursor.n + 1
        items: list[Entry | Gap] = [entry(n, self.size) for n in range(first, first + count)]
        return Page(items, Numbering.after(Cursor(1000, first + count - 1)), more=True)


@pytest.mark.anyio
async def test_pages_of_large_entries_become_short_at_once_and_of_small_ones_long_by_and_by() -> None:
    for size, least, most in ((200_000, 1, 1), (10, PAGE_ENTRIES // 2, PAGE_ENTRIES)):
        log = LogOf(size)
        pages = Pages(log)  # type: ignore[arg-type]
        position = Numbering.after(START)
        for _ in range(8):
            page = await pages.read("x", 1, position, SSE, None)
            assert len(page.frames(SSE, None)[0]) < PAGE_BYTES + 2 * size + page.entries * 200
            position = page.position
        assert log.asked[0] == FIRST_PAGE_ENTRIES
        assert all(least <= count <= most for count in log.asked[4:]), log.asked
        # Those who come after find the same pages.
        assert position.cursor.n % min(log.asked[-1], PAGE_ENTRIES) == 0


def test_attack_12_a_viewer_whose_page_has_the_ending_is_told_how_it_ended_before_the_tail_is() -> None:
    ports = Ports()
    topic = Topic("x", Cursor(1000, 1), ports, max_entries=6, max_bytes=10**9, status="cancelling")
    viewer = Viewer(OpenSink(), SSE, Numbering.after(START))
    topic.join(viewer)
    page = Page([entry(1), entry(2)], Numbering.after(Cursor(1000, 2)), ended=True, status="cancelled")
    topic.page(ports.asked.pop(), RenderedPage("x", page, 0.0))
    end = viewer.sink.got.partition(b"event: stream.end")[2]  # type: ignore[attr-defined]
    assert b'"status":"cancelled"' in end
