"""What many viewers leave behind at a topic when they have gone: nothing that an event costs, and nothing kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.filter import Filter
from tailrace.gateway.hub.topic import Topic
from tailrace.gateway.hub.viewer import Stage, Viewer
from tailrace.gateway.hub.window import MAX_FORMATS
from tailrace.gateway.streams.parameters import StreamParameters
from tailrace.gateway.streams.several import rendering_of
from tailrace.gateway.wire.formats import SSE, Format, Message
from tailrace.gateway.wire.multiplex import MultiplexFormat

TS = "2026-01-02T03:04:05.678901Z"
RING_BYTES = 256 * 1024


class OpenSink:
    def __init__(self) -> None:
        self.written = 0
        self.cut_off: Callable[[], None] | None = None

    def write(self, message: Message) -> bool:
        self.written += len(message["body"])
        if self.cut_off is not None:
            self.cut_off()
        return True

    def finish(self, message: Message) -> bool:
        return self.write(message)

    def unsent_bytes(self) -> int:
        return 0

    def send_away(self, message: Message) -> None:
        self.write(message)

    def cut(self) -> None:
        raise AssertionError("not expected")


class Timer:
    def __init__(self, ports: Ports, call: Callable[[], None]) -> None:
        self._ports = ports
        self.call = call
        ports.running.append(self)

    def cancel(self) -> None:
        self._ports.running.remove(self)


class Ports:
    def __init__(self) -> None:
        self.deliveries = 0
        self.running: list[Timer] = []

    def read_page(self, _: Topic, __: Viewer) -> None:
        raise AssertionError("everything is in the window")

    def later(self, _: int, call: Callable[[], None]) -> Timer:
        return Timer(self, call)

    def now(self) -> float:
        return 0.0

    def count(self, name: str, amount: int = 1) -> None:
        pass


class World:
    def __init__(self) -> None:
        self.ports = Ports()
        self.topic = Topic("x", Cursor(1, 1), self.ports, max_entries=1024, max_bytes=RING_BYTES)
        self.last = 1

    def join(self, rendering: Format = SSE, wanted: Filter | None = None, coalesce_ms: int = 0) -> Viewer:
        position = Numbering.after(self.topic.head)
        viewer = Viewer(OpenSink(), rendering, position, wanted=wanted, coalesce_ms=coalesce_ms)
        self.topic.join(viewer)
        assert viewer.stage is Stage.LIVE
        return viewer

    def news(self, count: int = 1, size: int = 2) -> None:
        data = b'"%b"' % (b"x" * size)
        entries = [Entry(Cursor(1, self.last + n), "custom.probe", None, TS, data) for n in range(1, count + 1)]
        self.last += count
        self.topic.news(entries)


class Counting:
    """How many entries were rendered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rendered = 0
        render = MultiplexFormat.entry

        def entry(this: MultiplexFormat, execution_id: str, entry: Entry) -> bytes:
            self.rendered += 1
            return render(this, execution_id, entry)

        monkeypatch.setattr(MultiplexFormat, "entry", entry)


def of_a_request() -> MultiplexFormat:
    """What a request for several executions is written in."""
    return rendering_of(StreamParameters())


def test_attack_52_an_event_is_rendered_once_for_all_streams_of_several_executions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting = Counting(monkeypatch)
    world = World()
    viewers = [world.join(of_a_request()) for _ in range(300)]
    world.news(1)
    assert counting.rendered == 1
    for _ in range(8):
        world.news(20, size=4096)
    assert counting.rendered == 1 + 8 * 20
    assert len({viewer.sink.written for viewer in viewers if isinstance(viewer.sink, OpenSink)}) == 1


def test_attack_52_an_event_costs_the_same_after_thousands_of_streams_of_several_executions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    for _ in range(1000):
        viewer = world.join(of_a_request())
        world.news(20, size=512)
        world.topic.leave(viewer)
    staying = world.join(of_a_request())
    counting = Counting(monkeypatch)
    world.news(1)
    assert counting.rendered == 1
    assert staying.stage is Stage.LIVE
    assert world.topic.window.size_bytes <= RING_BYTES


def test_attack_52_frames_that_each_viewer_has_for_itself_are_few_and_counted() -> None:
    """A wire of an application's own may differ from viewer to viewer."""
    world = World()
    for _ in range(50):
        own = MultiplexFormat(SSE)
        own.name = "somebody's own"
        world.join(own)
    for _ in range(20):
        world.news(40, size=1024)
        assert world.topic.window.size_bytes <= RING_BYTES
        assert len(world.topic.window._frames) <= MAX_FORMATS


def one_off(number: int) -> Filter:
    return Filter(types=(f"custom.n{number}",))


def test_attack_53_viewers_that_coalesce_leave_no_group_and_no_timer_behind() -> None:
    world = World()
    staying = world.join(coalesce_ms=50)
    viewers = [world.join(wanted=one_off(number), coalesce_ms=1000) for number in range(500)]
    world.news()
    assert len(world.ports.running) == 501
    for viewer in viewers:
        world.topic.leave(viewer)
    assert len(world.ports.running) == 1
    world.ports.running.pop().call()
    world.news()
    # One for the viewer that is still there: an event costs nothing for those that have gone.
    assert len(world.ports.running) == 1
    assert list(world.topic._groups) == [staying.key]


def test_attack_53_a_viewer_that_lags_takes_the_timer_of_its_group_along() -> None:
    world = World()
    viewer = world.join(coalesce_ms=100)
    world.news()
    world.topic.end("completed")
    assert viewer.stage is Stage.GONE
    assert world.ports.running == []


def test_attack_53_a_group_whose_last_member_left_during_a_write_gets_no_timer() -> None:
    """Viewers of one connection leave together, whichever of them it was cut for."""
    world = World()
    first, second = world.join(), world.join(wanted=one_off(1), coalesce_ms=1000)
    assert isinstance(first.sink, OpenSink)
    first.sink.cut_off = lambda: world.topic.leave(second)
    world.news()
    assert world.ports.running == []
