"""Where documents are parsed: a process of its own for each task, forked from one whose imports are done.

Inside, whatever a parser does to time or memory ends with its process. The worker's side is `parsers`.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import struct
from array import array
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any, Final, NoReturn

import msgpack

from tailrace.workers.builtin.document.chunk import chunk
from tailrace.workers.builtin.document.errors import DocumentError, DocumentTooComplexError
from tailrace.workers.builtin.document.extract import extract
from tailrace.workers.builtin.document.keywords import keywords
from tailrace.workers.builtin.document.protocol import FORK, REQUEST, wait_seconds
from tailrace.workers.builtin.document.source import contents, write
from tailrace.workers.builtin.document.statistics import statistics
from tailrace.workers.builtin.document.summary import summarize

LENGTH: Final = struct.Struct("!I")
MAX_DESCRIPTORS: Final = 3

# Others on the machine go first: the worker's own loop, which keeps its leases, among them.
_NICENESS: Final = 10
# UTF-8 of the longest text that any parser gives.
_MAX_TEXT_BYTES: Final = 400_000_000


def main(descriptor: int) -> None:
    """Fork for each request, until the worker is gone; then end with all that was forked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    Forks(socket.socket(fileno=descriptor)).serve()
    os.killpg(os.getpgrp(), signal.SIGKILL)


class Forks:
    """The processes of this moment, each by its number and with the socket over which it tells."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._numbers: dict[int, int] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._woken, self._waker = socket.socketpair()
        for each in (self._woken, self._waker):
            each.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        gc.freeze()

    def serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._control, self._woken], [], [])
            if self._woken in ready:
                self._woken.recv(4096)
                self._bury()
            if self._control in ready:
                request, descriptors, _, _ = socket.recv_fds(self._control, REQUEST.size, MAX_DESCRIPTORS)
                if len(request) < REQUEST.size:
                    return
                what, number = REQUEST.unpack(request)
                if what == FORK:
                    self._fork(number, descriptors)
                else:
                    self._kill(number)

    def _fork(self, number: int, descriptors: list[int]) -> None:
        told = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            self._become_child(told, descriptors[1:])
        for each in descriptors[1:]:
            os.close(each)
        self._numbers[number] = pid
        self._sockets[pid] = told

    def _kill(self, number: int) -> None:
        if (pid := self._numbers.get(number)) is not None:
            # It has not been waited for, so its pid is still its own.
            os.kill(pid, signal.SIGKILL)

    def _bury(self) -> None:
        """Tell the worker how each ended that has; it stops to read when it was told more before."""
        while self._numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._numbers = {number: other for number, other in self._numbers.items() if other != pid}
            with self._sockets.pop(pid) as told:
                told.setblocking(False)  # noqa: FBT003 - as above
                try:
                    _send(told, ["ended", -os.waitstatus_to_exitcode(status)])
                except OSError:
                    continue

    def _become_child(self, told: socket.socket, descriptors: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (self._control, self._woken, self._waker, *self._sockets.values()):
                each.close()
            _work(told, descriptors)
            code = 0
        finally:
            os._exit(code)


def _work(told: socket.socket, descriptors: list[int]) -> None:
    _send(told, ["begun"])
    order = _receive(told)
    _limit(order["memory_bytes"], order["seconds"])
    try:
        reply = ["done", _TASKS[order["task"]](descriptors, order, lambda *page: _send(told, ["page", *page]))]
    except Exception as error:  # noqa: BLE001 - a parser's defect, met by somebody's document
        refusal = error if isinstance(error, DocumentError) else _too_complex(error, order)
        reply = ["failed", refusal.code, str(refusal)]
    _send(told, reply)


def _too_complex(error: Exception, order: Mapping[str, Any]) -> DocumentError:
    if isinstance(error, MemoryError):
        reason = f"it needs more than {order['memory_bytes'] >> 20:,} MB of memory"
    else:
        reason = " ".join(f"its parser failed with {type(error).__name__}: {error}".split())[:200]
    return DocumentTooComplexError(order["name"], reason)


def _limit(memory_bytes: int, seconds: float) -> None:
    """What the kernel sees to, whatever a parser does. SIGXCPU and SIGALRM end a process that knows nothing of them."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_TEXT_BYTES, _MAX_TEXT_BYTES))
    processor_seconds = max(1, round(seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (processor_seconds, processor_seconds + 1))
    signal.setitimer(signal.ITIMER_REAL, wait_seconds(seconds))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    except (ValueError, OSError):  # macOS knows the limit, and does not let it be set
        return


Task = Callable[[list[int], Mapping[str, Any], Callable[[int, int], None]], Any]


def _extract(descriptors: list[int], order: Mapping[str, Any], on_page: Callable[[int, int], None]) -> Any:
    """The text goes into the second descriptor: it may be far larger than a message."""
    source, kept = descriptors
    document = extract(contents(source, order["name"]), order["name"], on_page=on_page)
    write(kept, document.text.encode())
    return [document.kind, document.title, len(document.text), document.pages, document.size_bytes]


def _of_text(task: Callable[[str, Mapping[str, Any]], Any]) -> Task:
    def on_text(descriptors: list[int], order: Mapping[str, Any], _on_page: Callable[[int, int], None]) -> Any:
        return task(contents(descriptors[0], order["name"], max_bytes=_MAX_TEXT_BYTES).decode(), order)

    return on_text


def _chunks(text: str, order: Mapping[str, Any]) -> bytes:
    """Words, start and end of each, as numbers of four bytes: a quarter of a million of them still fit a message."""
    found = chunk(text, max_words=order["max_words"], overlap_words=order["overlap_words"])
    return array("I", chain.from_iterable((each.words, each.start, each.end) for each in found)).tobytes()


_TASKS: Final[Mapping[str, Task]] = {
    "extract": _extract,
    "chunk": _of_text(_chunks),
    "statistics": _of_text(lambda text, _: asdict(statistics(text))),
    "keywords": _of_text(lambda text, order: [asdict(each) for each in keywords(text, order["top"])]),
    "summarize": _of_text(
        lambda text, order: summarize(text, sentences=order["sentences"], max_words=order["max_words"])
    ),
}


def _send(told: socket.socket, message: list[Any]) -> None:
    packed = msgpack.packb(message)
    told.sendall(LENGTH.pack(len(packed)) + packed)


def _receive(told: socket.socket) -> Any:
    with told.makefile("rb") as file:
        (length,) = LENGTH.unpack(file.read(LENGTH.size))
        return msgpack.unpackb(file.read(length))
