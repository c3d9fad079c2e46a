"""Ways into a contender: each takes events as they are offered and writes them without waiting.

A feed holds back what its server does not take yet, up to a limit: beyond it nothing more is offered, and
the publisher reports that it was held back.
"""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Final

from bench.load import event

_READ_BYTES: Final = 1 << 18


class RefusedError(Exception):
    """The server answered an offered event with an error."""


class Feed(ABC):
    """Where events go. ``pending`` counts those offered and not yet taken (or not yet acknowledged)."""

    pending: int
    answers_pace_it: bool = False
    """Whether the next event may have to wait for an answer, so that answers must be read at once."""

    @abstractmethod
    def offer(self, run: int, number: int, offered_ns: int) -> None: ...

    @abstractmethod
    def pump(self, wait_seconds: float) -> None:
        """Write what can be written and read what has come, waiting at most so long. Raises RefusedError."""

    @abstractmethod
    def close(self) -> None: ...


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection


class _Lane:
    """A socket with what it still has to write."""

    def __init__(self, port: int) -> None:
        self.socket = _connect(port)
        self._out = bytearray()

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def full(self) -> bool:
        return bool(self._out)

    def write(self, data: bytes) -> None:
        self._out += data

    def flush(self) -> None:
        while self._out:
            try:
                sent = self.socket.send(self._out)
            except BlockingIOError:
                return
            del self._out[:sent]

    def read(self) -> bytes:
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise RefusedError("the server closed the publisher's connection")
        return data


class RespFeed(Feed):
    """Pipelined XADD on one connection, numbered as the bus numbers its entries (DESIGN section 4)."""

    def __init__(self, port: int, executions: list[str]) -> None:
        self._lane = _Lane(port)
        self._heads = []
        for execution in executions:
            key = b"tr:{%b}:log" % execution.encode()
            self._heads.append(b"*9\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n" % (len(key), key))
        self.last_ids = [b"0-0"] * len(executions)
        self.pending = 0
        self._ts = b""
        self._ts_until = 0.0

    def offer(self, run: int, number: int, offered_ns: int) -> None:
        unix = time.time()
        if unix > self._ts_until:
            self._ts = event.timestamp(unix)
            self._ts_until = unix + 0.01
        entry_id = self.last_ids[run] = b"%d-%d" % (unix * 1000, number)
        data = event.data(number, run, offered_ns)
        self._lane.write(
            b"%b$%d\r\n%b\r\n$1\r\nt\r\n$10\r\nbench.word\r\n$2\r\nts\r\n$27\r\n%b\r\n$1\r\nd\r\n$%d\r\n%b\r\n"
            % (self._heads[run], len(entry_id), entry_id, self._ts, len(data), data)
        )
        self.pending += 1

    def pump(self, wait_seconds: float) -> None:
        self._lane.flush()
        writers = [self._lane] if self._lane.full else []
        readable, writable, _ = select.select([self._lane], writers, [], wait_seconds)
        if writable:
            self._lane.flush()
        if readable:
            replies = self._lane.read()
            if error := re.search(rb"(?:^|\n)-([^\r]*)", replies):
                raise RefusedError(error[1].decode())
            self.pending -= replies.count(b"$")

    def close(self) -> None:
        self._lane.socket.close()


class HttpFeed(Feed):
    """POSTs over kept-alive connections, one request in flight on each; a run always uses the same one."""

    answers_pace_it = True
    _LANES: Final = 64

    def __init__(self, port: int, executions: list[str], path: str, headers: dict[str, str], body: str) -> None:
        self._executions = [execution.encode() for execution in executions]
        self._lanes = [_Lane(port) for _ in range(min(self._LANES, len(executions)))]
        self._waiting: list[deque[bytes]] = [deque() for _ in self._lanes]
        self._busy = [False] * len(self._lanes)
        self._received = [b""] * len(self._lanes)
        self._poller = select.epoll()
        self._by_fileno = {lane.fileno(): number for number, lane in enumerate(self._lanes)}
        for fileno in self._by_fileno:
            self._poller.register(fileno, select.EPOLLIN)
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._heads = [
            f"POST {path.format(execution=execution)} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}Content-Length: ".encode()
            for execution in executions
        ]
        self._bodies = [body.replace("{execution}", execution).encode().split(b"{event}") for execution in executions]
        self.pending = 0

    def offer(self, run: int, number: int, offered_ns: int) -> None:
        inner = event.data(number, run, offered_ns)
        shown = event.envelope(self._executions[run], inner, event.timestamp(time.time()))
        before, after = self._bodies[run]
        self._waiting[run % len(self._lanes)].append(
            b"%b%d\r\n\r\n%b%b%b" % (self._heads[run], len(before) + len(shown) + len(after), before, shown, after)
        )
        self.pending += 1

    def pump(self, wait_seconds: float) -> None:
        for number, busy in enumerate(self._busy):
            if not busy:
                self._next(number)
        for fileno, _ in self._poller.poll(wait_seconds):
            number = self._by_fileno[fileno]
            self._received[number] += self._lanes[number].read()
            if self._answered(number):
                self._busy[number] = False
                self.pending -= 1
                self._next(number)

    def _next(self, number: int) -> None:
        if self._waiting[number]:
            self._busy[number] = True
            self._lanes[number].write(self._waiting[number].popleft())
            self._lanes[number].flush()

    def _answered(self, number: int) -> bool:
        received = self._received[number]
        head, blank, rest = received.partition(b"\r\n\r\n")
        if not blank:
            return False
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        chunked_end = rest.endswith(b"0\r\n\r\n")
        if not (chunked_end if length is None else len(rest) >= int(length[1])):
            return False
        if not head.startswith(b"HTTP/1.1 2"):
            raise RefusedError(received[:500].decode(errors="replace"))
        self._received[number] = b""
        return True

    def close(self) -> None:
        for lane in self._lanes:
            lane.socket.close()


class BareFeed(Feed):
    """Ready-made frames for the bare sender: <run u32><length u32><bytes>."""

    def __init__(self, port: int, executions: list[str]) -> None:
        self._lane = _Lane(port)
        self._lane.write(b"PUT\n")
        self._lane.flush()
        self._executions = [execution.encode() for execution in executions]
        self._waiting = 0
        self._ts = b""
        self._ts_until = 0.0

    @property
    def pending(self) -> int:  # type: ignore[override]
        if not self._lane.full:
            self._waiting = 0
        return self._waiting

    def offer(self, run: int, number: int, offered_ns: int) -> None:
        unix = time.time()
        if unix > self._ts_until:
            self._ts = event.timestamp(unix)
            self._ts_until = unix + 0.01
        body = event.envelope(self._executions[run], event.data(number, run, offered_ns), self._ts)
        frame = event.frame(b"%d-%d" % (unix * 1000, number), body)
        self._lane.write(struct.pack("<II", run, len(frame)) + frame)
        self._waiting += 1

    def pump(self, wait_seconds: float) -> None:
        self._lane.flush()
        if self._lane.full:
            select.select([], [self._lane], [], wait_seconds)
            self._lane.flush()
        else:
            time.sleep(wait_seconds)

    def close(self) -> None:
        self._lane.socket.close()


def open_feed(kind: str, port: int, executions: list[str], options: dict[str, Any]) -> Feed:
    if kind == "resp":
        return RespFeed(port, executions)
    if kind == "http":
        return HttpFeed(port, executions, **options)
    if kind == "bare":
        return BareFeed(port, executions)
    raise ValueError(f"no such feed: {kind}")
