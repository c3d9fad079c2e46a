"""What is read bare is what is read plainly: the same entries, checked as strictly, and the same proof."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.cursor import START, Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.reading import Bare, RawEntry, bare_page, read_bare, read_plain, read_proved
from tailrace.gateway.wire.formats import SSE, SSE_UNNAMED

LIMIT_BYTES = 60
MOST_BYTES = 1 << 20
OURS = [b"t", b"custom.x", b"ts", b"2026-01-02T03:04:05.678901Z", b"d", b"{}"]

types = st.sampled_from([b"custom.x", b"token", b"execution.started", b"execution.completed", b"Bad type", b"stream.x"])
steps = st.sampled_from([b"fetch", '\u00e4 "quoted" step'.encode(), b"", b"two\nlines", b"\xff"])
times = st.sampled_from(
    [
        *(b"2026-01-02T03:04:05.678901Z", b"2026-01-02T03:04:05.000002Z", b"2026-01-02T03:04:05.6+02:00"),
        *(b"2026-01-02T03:04:05.67890_Z", b"2026-01-02T03:04:05.6789012", b"2026-01-02T03:04:05Z"),
        *(b"2026-01-02T03:04:05Z678901Z", b"2026-01-02T03:04:05+02:00", b"yesterday", b'"', b"2026\n"),
    ]
)
datas = st.sampled_from(
    [
        b"{}",
        b"{}",
        b'{"a":[1,2]}',
        b"null",
        b"{",
        b'{"a":\n1}',
        b'"a\rb"',
        b"\xff",
        b"",
        b"[" * 40 + b"]" * 40,
        b"1" * 30,
    ]
)
known = st.one_of(
    st.builds(lambda t, ts, d: [b"t", t, b"ts", ts, b"d", d], types, times, datas),
    st.builds(lambda t, s, ts, d: [b"t", t, b"s", s, b"ts", ts, b"d", d], types, steps, times, datas),
)
strange = st.lists(st.sampled_from([b"t", b"s", b"ts", b"d", b"m", b"e", b"custom.x", b"{}"]), max_size=9)
fields = st.one_of(st.just(OURS), st.just(OURS), known, strange, st.none())


@st.composite
def batches(draw: st.DrawFn) -> list[RawEntry]:
    ms, n = 1000, draw(st.integers(1, 3))
    batch: list[RawEntry] = []
    for _ in range(draw(st.integers(0, 6))):
        # Onwards by one, in this millisecond or a later one; a jump; numbers of a stranger's.
        kind = draw(st.sampled_from(["next", "next", "same ms", "jump", "stranger"]))
        ms += 0 if kind == "same ms" else draw(st.integers(1, 3))
        n = {"next": n + 1, "same ms": n + 1, "jump": n + 3, "stranger": 0}[kind]
        batch.append([b"%d-%d" % (ms, n), draw(fields)])
    return batch


positions = st.builds(
    lambda n, counted, origin: Numbering(
        Cursor(1000, n), n if counted else None, Cursor(1000, n) if counted and origin else None
    ),
    st.integers(1, 3),
    st.sampled_from([True, True, False]),
    st.booleans(),
)


def as_bare(entry: Entry) -> Bare:
    step = None if entry.step is None else entry.step.encode()
    return entry.id.encode(), entry.type.encode(), step, entry.ts.encode(), entry.raw_data


@given(positions, batches())
@example(Numbering(Cursor(1000, 1), 1), [[b"1001-2", OURS], [b"1002-3", OURS]])
def test_what_is_read_bare_is_what_would_have_been_read_plainly(position: Numbering, batch: list[RawEntry]) -> None:
    plainly = position.copy()
    found = read_bare(position, batch, LIMIT_BYTES, MOST_BYTES)
    entries = read_plain(plainly, batch[: len(found)], LIMIT_BYTES)
    assert entries is not None
    assert found == [as_bare(entry) for entry in entries]
    assert (position, position.origin) == (plainly, plainly.origin)
    for rendering in (SSE, SSE_UNNAMED):
        assert rendering.bare("x-1", found) == b"".join([rendering.entry("x-1", entry) for entry in entries])


@given(st.integers(1, 5))
def test_ours_are_read_bare_to_the_last(count: int) -> None:
    position = Numbering(Cursor(1000, 1), 1)
    batch = [[b"%d-%d" % (1000 + n, n), OURS] for n in range(2, 2 + count)]
    assert len(read_bare(position, batch, LIMIT_BYTES, MOST_BYTES)) == count
    assert position == Numbering(Cursor(1001 + count, 1 + count), 1 + count)


def test_no_more_is_read_than_fills_a_write_but_one_always() -> None:
    data = b'"%b"' % (b"x" * 40)
    batch = [[b"%d-%d" % (1000 + n, n), [*OURS[:-1], data]] for n in range(2, 12)]
    assert len(read_bare(Numbering(Cursor(1000, 1), 1), batch, LIMIT_BYTES, 1)) == 1
    assert len(read_bare(Numbering(Cursor(1000, 1), 1), batch, LIMIT_BYTES, 100)) == 3


@given(positions, batches(), st.integers(1, 4))
def test_a_page_is_bare_where_the_cursor_is_still_in_the_log_and_goes_on_from_it(
    position: Numbering, batch: list[RawEntry], count: int
) -> None:
    there: RawEntry = [position.cursor.encode(), OURS]
    assert bare_page(position, [[b"1-1", OURS], *batch], count, LIMIT_BYTES, MOST_BYTES) is None
    plainly = position.copy()
    page = bare_page(position, [there, *batch][: count + 1], count, LIMIT_BYTES, MOST_BYTES)
    assert position == plainly
    if page is not None:
        items, at = read_proved(plainly, batch[: len(page.bare)], LIMIT_BYTES)
        assert page.bare == [as_bare(item) for item in items if isinstance(item, Entry)]
        assert (page.position, page.position.origin, len(page.bare)) == (at, at.origin, len(items))
        # Whatever was found and is not on it is asked for again.
        assert page.more or len(page.bare) == len(batch)


def test_a_page_from_the_start_is_bare_where_the_first_number_is_there() -> None:
    first: RawEntry = [b"1000-1", OURS]
    page = bare_page(Numbering.after(START), [first], 5, LIMIT_BYTES, MOST_BYTES)
    assert page is not None
    assert (len(page.bare), page.more) == (1, False)
    assert bare_page(Numbering.after(START), [[b"1000-2", OURS]], 5, LIMIT_BYTES, MOST_BYTES) is None
    assert bare_page(Numbering(START, None), [first], 5, LIMIT_BYTES, MOST_BYTES) is None
