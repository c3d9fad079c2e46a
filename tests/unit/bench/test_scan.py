"""A viewer of the bench must see every loss, doubling and mix-up, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bench.load import event
from bench.load.mark import WIDTH, mark
from bench.load.scan import Chunk, Viewer


def frame(number: int, run: int = 3) -> bytes:
    body = event.envelope(b"bench-1", event.data(number, run, 1_000 + number), event.timestamp(1.0))
    return event.frame(b"1-%d" % number, body)


def show(viewer: Viewer, *reads: bytes) -> Viewer:
    for read in reads:
        viewer.take(Chunk(viewer.carry + read))
    return viewer


def account(viewer: Viewer) -> tuple[int, int, int, int]:
    return viewer.next, viewer.gaps, viewer.duplicates, viewer.foreign


def test_a_mark_has_the_width_that_the_scanner_expects() -> None:
    assert len(mark(1, 2, 3)) == WIDTH + 1


@given(st.lists(st.integers(1, 2000), max_size=12))
def test_a_stream_cut_into_any_pieces_is_counted_once_each(cuts: list[int]) -> None:
    stream = b": hb\n".join(frame(number) for number in range(1, 8))
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    viewer = Viewer(3)
    counted = 0
    for start, end in pairwise(edges):
        chunk = Chunk(viewer.carry + stream[start:end])
        viewer.take(chunk)
        counted += chunk.count
    assert account(viewer) == (8, 0, 0, 0)
    assert counted == 7


@given(st.permutations(range(1, 9)))
def test_only_the_right_order_is_without_fault(order: list[int]) -> None:
    viewer = show(Viewer(3), b"".join(frame(number) for number in order))
    assert (account(viewer) == (9, 0, 0, 0)) == (order == sorted(order))


def test_a_hole_inside_one_read_is_a_gap_of_its_size() -> None:
    assert account(show(Viewer(3), frame(1) + frame(2) + frame(6))) == (7, 3, 0, 0)


def test_a_hole_between_reads_is_a_gap_of_its_size() -> None:
    assert account(show(Viewer(3), frame(1), frame(4))) == (5, 2, 0, 0)


def test_an_event_that_comes_again_is_a_duplicate() -> None:
    assert account(show(Viewer(3), frame(1), frame(1), frame(2))) == (3, 0, 1, 0)


def test_a_gap_and_a_duplicate_of_the_same_length_do_not_cancel_out() -> None:
    assert account(show(Viewer(3), frame(1) + frame(1) + frame(3))) == (4, 1, 1, 0)


def test_an_event_of_another_run_is_foreign() -> None:
    assert account(show(Viewer(3), frame(1), frame(2, run=4))) == (2, 0, 0, 1)


def test_an_event_of_another_run_inside_a_batch_is_foreign() -> None:
    assert account(show(Viewer(3), frame(1) + frame(2, run=4) + frame(2))) == (3, 0, 0, 1)


def test_who_resumes_expects_the_event_after_the_cursor() -> None:
    assert account(show(Viewer(3, first=5), frame(5))) == (6, 0, 0, 0)
    assert account(show(Viewer(3, first=5), frame(4))) == (5, 0, 1, 0)
    assert account(show(Viewer(3, first=5), frame(6))) == (7, 1, 0, 0)


def test_latencies_are_counted_from_when_each_event_was_offered() -> None:
    assert Chunk(frame(1) + frame(2)).latencies_ns(2_000) == [999, 998]
