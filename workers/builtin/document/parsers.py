"""Documents parsed in processes that can be killed, a bounded number at a time. Inside such a process: `child`."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from tailrace.workers.builtin.document.errors import DocumentError, DocumentTooComplexError
from tailrace.workers.builtin.document.protocol import FORK, KILL, MAX_PAGES, REQUEST, OnPage, wait_seconds
from tailrace.workers.builtin.document.source import Kept, Source
from tailrace.workers.running.channel import Channel

logger = logging.getLogger(__name__)

# The first document waits for the imports, on a machine that may be busy.
START_SECONDS: Final = 60.0
# The kernel ends what is overdue; this more is for one that it cannot.
_SLACK_SECONDS: Final = 10.0
_CONTROL_SECONDS: Final = 5.0
# Of the worker's environment a parser needs nothing else, and Redis' password least.
_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one task on one document: `seconds` of processor time, `memory_bytes` of address space (not on macOS)."""

    seconds: float = 120.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Extracted:
    """A document whose text, of so many `characters`, is in a file that the worker itself need not read."""

    name: str
    kind: str
    title: str | None
    characters: int
    pages: int | None
    size_bytes: int
    text: Kept


def _on_no_page(_done: int, _pages: int) -> None: ...


class Parsers:
    def __init__(self, limits: Limits, *, processes: int = 2) -> None:
        self._limits = limits
        self._free = asyncio.Semaphore(processes)

    async def extract(self, source: Source, on_page: OnPage) -> Extracted:
        """Calls `on_page` with (pages done, pages in all) after each page of a PDF. Raises a `DocumentError`."""
        text = Kept()
        try:
            descriptors = [source.descriptor, text.descriptor]
            told = await self._task({"task": "extract", "name": source.name}, descriptors, on_page)
            kind, title, characters, pages, size_bytes = told
            return Extracted(source.name, kind, title, characters, pages, size_bytes, text)
        except BaseException:
            text.close()
            raise

    async def chunks(self, document: Extracted, **options: int) -> list[tuple[int, int, int]]:
        """(words, start, end) of each chunk. This and the others raise a `DocumentError` at a limit."""
        flat = array("I", await self._of_text("chunk", document, **options))
        return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))

    async def statistics(self, document: Extracted) -> dict[str, float]:
        found: dict[str, float] = await self._of_text("statistics", document)
        return found

    async def keywords(self, document: Extracted, top: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._of_text("keywords", document, top=top)
        return found

    async def summarize(self, document: Extracted, **options: int) -> list[str]:
        found: list[str] = await self._of_text("summarize", document, **options)
        return found

    async def _of_text(self, task: str, document: Extracted, **options: int) -> Any:
        return await self._task({"task": task, "name": document.name, **options}, [document.text.descriptor])

    async def _task(self, order: dict[str, Any], descriptors: Sequence[int], on_page: OnPage = _on_no_page) -> Any:
        order |= {"seconds": self._limits.seconds, "memory_bytes": self._limits.memory_bytes}
        async with self._free:
            ended = await self._ended(order, descriptors, on_page)
        match ended:
            case ["done", result]:
                return result
            case ["failed", str(code), str(message)]:
                error = DocumentError.told(code, message)
            case _:
                error = DocumentTooComplexError(order["name"], self._how(ended))
        if isinstance(error, DocumentTooComplexError):
            SERVER.given_up += 1
            logger.warning("stopped parsing a document: %s", error)
        raise error

    async def _ended(self, order: dict[str, Any], descriptors: Sequence[int], on_page: OnPage) -> Any:
        """The last that is told of the process: its own word, the kernel's, or None when its server died with it."""
        async with _forked(descriptors) as channel:
            try:
                async with asyncio.timeout(wait_seconds(self._limits.seconds) + _SLACK_SECONDS):
                    await channel.send(order)
                    last = 0
                    while True:
                        match message := await channel.receive():
                            case ["page", int(done), int(pages)] if last < done <= MAX_PAGES:
                                last = done
                                on_page(done, pages)
                            case _:
                                return message
            except TimeoutError:
                return ["ended", signal.SIGALRM]
            except OSError:
                return None

    def _how(self, ended: Any) -> str:
        match ended:
            case ["ended", signal.SIGXCPU]:
                return f"it takes more than {self._limits.seconds:g} s of processor time"
            case ["ended", signal.SIGALRM]:
                return f"it was not done within {wait_seconds(self._limits.seconds):g} s"
            case ["ended", signal.SIGKILL]:
                return "the system ended its parser, probably for want of memory"
            case ["ended", int(number)] if number > 0:
                with suppress(ValueError):
                    return f"its parser crashed with {signal.Signals(number).name}"
        return "its parser crashed"


@contextlib.asynccontextmanager
async def _forked(descriptors: Sequence[int]) -> AsyncIterator[Channel]:
    """A process that holds `descriptors` and waits for its order; killed in the end, whatever it does."""
    channel, number = await _begun(descriptors) or await _begun(descriptors) or _not_begun()
    try:
        yield channel
    finally:
        SERVER.kill(number)
        try:
            # What it took is free, and its place another's, when it is gone.
            async with asyncio.timeout(_SLACK_SECONDS):
                while await channel.receive() is not None:
                    pass
        except TimeoutError:
            logger.warning("a document's parser is still there %g s after it was killed", _SLACK_SECONDS)
        finally:
            channel.close()


async def _begun(descriptors: Sequence[int]) -> tuple[Channel, int] | None:
    """A new process that runs, and its number; None when its server died meanwhile."""
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours)
    number = 0
    try:
        with theirs:
            number = await asyncio.to_thread(SERVER.fork, [theirs.fileno(), *descriptors])
        async with asyncio.timeout(START_SECONDS):
            begun = await channel.receive()
            if begun is not None:
                return channel, number
        await asyncio.to_thread(SERVER.give_up, number)
    except BaseException:
        SERVER.kill(number)
        channel.close()
        raise
    channel.close()
    return None


def _not_begun() -> NoReturn:
    raise OSError("the process that parses documents died twice before it began; see the worker's standard error")


class Server:
    """The process that forks the others: one a worker process, from its first document on, again when it is gone.

    `given_up` counts documents that met a limit, or on which the parser crashed.
    """

    def __init__(self) -> None:
        self.given_up = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._popen: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._first = 0

    @property
    def pid(self) -> int | None:
        return None if self._popen is None else self._popen.pid

    def fork(self, descriptors: Sequence[int]) -> int:
        """The number by which `kill` knows the process. May have to start a Python first. Raises OSError."""
        with self._lock:
            number = next(self._numbers) % (1 << 32)
            request = [REQUEST.pack(FORK, number)]
            if self._control is not None and self._owner == os.getpid():
                with suppress(OSError):
                    socket.send_fds(self._control, request, descriptors)
                    return number
                logger.warning("the process that parses documents is gone; starting another")
            self._stop()
            self._first = number
            socket.send_fds(self._start(), request, descriptors)
            return number

    def give_up(self, number: int) -> None:
        """Its socket closed without a word for this number: it is gone, or as good as that."""
        with self._lock:
            if number >= self._first:
                logger.warning("the process that parses documents is gone; starting another")
                self._stop()

    def kill(self, number: int) -> None:
        if self._control is not None:
            # One that is gone with its server, or ended by itself, needs none.
            with suppress(OSError):
                self._control.send(REQUEST.pack(KILL, number))

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(_CONTROL_SECONDS)
        entry = f"from tailrace.workers.builtin.document.child import main; main({theirs.fileno()})"
        with theirs:
            self._popen = subprocess.Popen(  # noqa: S603 - our own code
                [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {entry}"],
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._control, self._owner = ours, os.getpid()
        return ours

    def _stop(self) -> None:
        """It ends all that it forked, and itself, when its socket closes."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._popen is not None and self._owner == os.getpid():
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_CONTROL_SECONDS)
        self._popen = None

    def stop(self) -> None:
        with self._lock:
            self._stop()


SERVER: Final = Server()
atexit.register(SERVER.stop)
