"""Where the time goes: each stage of an entry's way by itself, in one process, without Redis or network.

Each is timed with batches of one and with larger ones, which share what is done once a batch.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, Final, NoReturn, cast

import hiredis
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from bench.alone.emit import data
from bench.load import event
from tailrace.bus.log.log import Log
from tailrace.bus.log.outbox import Outbox
from tailrace.bus.log.publisher import Publisher
from tailrace.bus.model.codec import encode
from tailrace.bus.model.continuity import Numbering
from tailrace.bus.model.counters import Counters
from tailrace.bus.model.cursor import Cursor
from tailrace.bus.model.entry import Entry
from tailrace.bus.model.event import Event
from tailrace.bus.model.keys import Keys
from tailrace.bus.model.reading import read_plain
from tailrace.bus.model.retention import Retention
from tailrace.gateway.asgi.uvicorn_internals import AsgiSink
from tailrace.gateway.hub.topic import Topic
from tailrace.gateway.hub.viewer import Viewer
from tailrace.gateway.wire.formats import SSE, Message, SseFormat

# The way of most events; then what stands in the place of `lone` where an execution has several viewers.
DELIVERING: Final = ("parse", "lone", "write", "send", "decode", "topic", "render")
EMITTING: Final = ("encode", "outbox", "append", "emit")
_RUN: Final = "bench-0000-00042"
_TS: Final = "2026-01-02T03:04:05.678901Z"
_LIMIT_BYTES: Final = 256 * 1024

Stage = Callable[[], None]
"""What is timed: made for so many entries, in batches of such a size."""


def raw_entries(entries: int) -> list[list[Any]]:
    ts = _TS.encode()
    return [[b"1-%d" % n, [b"t", b"bench.word", b"ts", ts, b"d", event.data(n, 42, n)]] for n in range(2, entries + 2)]


def batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def decoded(entries: int) -> list[Entry]:
    found = read_plain(Numbering.after(Cursor(1, 1)), raw_entries(entries), _LIMIT_BYTES)
    assert found is not None
    return found


def parse(entries: int, size: int) -> Stage:
    """From the bytes of an XREAD reply to objects."""
    replies = []
    for batch in batches(raw_entries(entries), size):
        rows = [_resp([entry_id, fields]) for entry_id, fields in batch]
        key = b"tr:{%b}:log" % _RUN.encode()
        replies.append(b"%%1\r\n%b*%d\r\n%b" % (_resp(key), len(rows), b"".join(rows)))

    def stage() -> None:
        reader = hiredis.Reader()
        for reply in replies:
            reader.feed(reply)
            reader.gets()

    return stage


def _resp(value: Any) -> bytes:
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n%b" % (len(value), b"".join(map(_resp, value)))


def lone(entries: int, size: int) -> Stage:
    """For an execution with one viewer: every field checked, continuity proved, rendered and handed on."""
    read = batches(raw_entries(entries), size)
    head = Cursor(1, 1)
    watched = Topic(_RUN, head, _Ports(), max_entries=1024, max_bytes=1 << 20)
    watched.join(Viewer(_Sink(), SSE, Numbering.after(head)))

    def stage() -> None:
        position = Numbering.after(head)
        for batch in read:
            watched.bare(position, batch, _LIMIT_BYTES)

    return stage


def decode(entries: int, size: int) -> Stage:
    """Every field checked, continuity proved."""
    read = batches(raw_entries(entries), size)

    def stage() -> None:
        numbering = Numbering.after(Cursor(1, 1))
        for batch in read:
            read_plain(numbering, batch, _LIMIT_BYTES)

    return stage


class _Ports:
    deliveries = 0

    def read_page(self, topic: Topic, viewer: Viewer) -> None:
        raise AssertionError(f"nobody replays here: {topic}, {viewer}")

    def later(self, delay_ms: int, call: Callable[[], None]) -> NoReturn:
        raise AssertionError(f"nobody coalesces here: {delay_ms}, {call}")

    def now(self) -> float:
        return 0.0

    def count(self, name: str, amount: int = 1) -> None:
        pass


class _Sink:
    """Takes everything."""

    def write(self, message: Message) -> bool:
        del message
        return True

    finish = send_away = cast("Any", write)

    def unsent_bytes(self) -> int:
        return 0

    def cut(self) -> None:
        pass


class _Rendered(SseFormat):
    def entry(self, execution_id: str, entry: Entry) -> bytes:
        del execution_id, entry
        return b"rendered"


def topic(entries: int, size: int) -> Stage:
    """The hub's arithmetic for a run with one viewer: window, groups, whom to write to."""
    news = batches(decoded(entries), size)
    head = Cursor(1, 1)
    watched = Topic(_RUN, head, _Ports(), max_entries=1024, max_bytes=1 << 20)
    viewer = Viewer(_Sink(), _Rendered(named=True), Numbering.after(head))
    watched.join(viewer)

    def stage() -> None:
        for batch in news:
            watched.news(batch)

    return stage


def render(entries: int, size: int) -> Stage:
    """An SSE frame for each, once for all viewers."""
    read = batches(decoded(entries), size)

    def stage() -> None:
        for batch in read:
            SSE.message(b"".join([SSE.entry(_RUN, entry) for entry in batch]))

    return stage


class _Transport:
    """Where uvicorn writes to; takes everything."""

    def write(self, _data: bytes) -> None:
        pass


def write(entries: int, size: int) -> Stage:
    """From a ready message through uvicorn's own send() to the transport, for one viewer."""
    read = decoded(size)
    message = SSE.message(b"".join([SSE.entry(_RUN, entry) for entry in read]))
    logger = logging.getLogger(__name__)
    cycle = RequestResponseCycle(
        scope=cast("Any", {"type": "http", "method": "GET"}),
        transport=cast("Any", _Transport()),
        flow=cast("Any", SimpleNamespace(write_paused=False)),
        logger=logger,
        access_logger=logger,
        access_log=False,
        default_headers=[],
        message_event=cast("Any", None),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    cycle.response_started = True
    cycle.chunked_encoding = True
    sink = AsgiSink(cast("Any", cycle.send))

    def stage() -> None:
        for _ in range(entries // size):
            sink.write(message)

    return stage


def send(entries: int, size: int) -> Stage:
    """One system call for one viewer, who reads in a process of its own."""
    frames = b"".join([SSE.entry(_RUN, entry) for entry in decoded(size)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if os.fork() == 0:
        ours.close()
        while theirs.recv(1 << 16):
            pass
        os._exit(0)
    theirs.close()

    def stage() -> None:
        for _ in range(entries // size):
            ours.send(frames)

    return stage


def events(entries: int) -> list[Event]:
    return [Event("step.progress", data(number), "fetch") for number in range(entries)]


def encode_each(entries: int, size: int) -> Stage:
    """Event made, checked and laid out as fields, data as JSON."""
    del size

    def stage() -> None:
        for number in range(entries):
            encode(Event("step.progress", data(number), "fetch"), ts=_TS, limit_bytes=_LIMIT_BYTES)

    return stage


def outbox(entries: int, size: int) -> Stage:
    """The same through the publisher's buffer: added, taken, confirmed."""
    held = Outbox(10_000, 1 << 24, batch_events=size)

    def stage() -> None:
        for _ in range(entries // size):
            for number in range(size):
                held.add(Event("step.progress", data(number), "fetch"), _TS)
            held.confirm(held.take())

    return stage


class _Answering:
    """Commands that are packed for the wire and answered at once, as append.lua would."""

    def __init__(self) -> None:
        self._n = 0

    async def command(self, *command: bytes | str | float) -> Any:
        hiredis.pack_command(cast("Any", command))
        # Behind the digest, the number of keys, four keys and eight arguments.
        count = int(command[15])
        self._n += count
        return [b"1760000000000", self._n, count]

    async def aclose(self) -> None:
        pass


def _log() -> Log:
    return Log(_Answering(), Keys(), counters=Counters(), retention=Retention())


def append(entries: int, size: int) -> Stage:
    """From a batch of ready fields to the bytes of one EVALSHA."""
    log = _log()
    ready = batches([encode(made, ts=_TS) for made in events(entries)], size)

    async def appended() -> None:
        for batch in ready:
            await log.append(_RUN, batch, producer="bench", seq=1)

    return lambda: _completed(appended())


def _completed(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


def emit(entries: int, size: int) -> Stage:
    """All of it: Publisher.emit in a loop of asyncio, flushed after every batch."""

    async def emitted() -> None:
        publisher = Publisher(_log(), _RUN, producer="bench")
        for start in range(0, entries, size):
            for number in range(start, start + size):
                await publisher.emit("step.progress", data(number), step="fetch")
            await publisher.flush()
        await publisher.aclose()

    return lambda: asyncio.run(emitted())


_STAGES: Final = {
    **dict(zip(DELIVERING, (parse, lone, write, send, decode, topic, render), strict=True)),
    **dict(zip(EMITTING, (encode_each, outbox, append, emit), strict=True)),
}


def main(order: dict[str, Any]) -> dict[str, float]:
    """``sizes`` are how many entries a batch has: 1, and the one that a busy run comes to."""
    figures = {}
    for size in order["sizes"]:
        entries = order["entries"] // size * size
        stage = _STAGES[order["contender"]](entries, size)
        gc.collect()
        gc.freeze()
        cpu = time.process_time()
        stage()
        figures[f"us_at_{size}"] = (time.process_time() - cpu) / entries * 1e6
    return figures


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
