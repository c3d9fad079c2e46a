"""Both output pipes of a child, merged in order of arrival, in bounded memory."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Mapping
from typing import IO

from tailrace.workers.command.lines import Stream

_READ_BYTES = 65_536


class Output:
    """Chunks as they come. When `max_buffered_bytes` wait to be taken, reading stops: the child then waits to write.

    Across the two streams the order is that in which the event loop saw them: two pipes tell no better. Owns the
    pipes; for one consumer.
    """

    def __init__(self, pipes: Mapping[IO[bytes], Stream], max_buffered_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = dict(pipes)
        self._max_buffered_bytes = max_buffered_bytes
        self._chunks: deque[tuple[Stream, bytes]] = deque()
        self._buffered_bytes = 0
        self._is_paused = True
        self._news = asyncio.Event()
        for pipe in self._open:
            os.set_blocking(pipe.fileno(), False)
        self._resume()

    async def take(self) -> tuple[Stream, bytes] | None:
        """The next chunk; None when both streams have ended."""
        while not self._chunks:
            if not self._open:
                return None
            self._news.clear()
            await self._news.wait()
        stream, chunk = self._chunks.popleft()
        self._buffered_bytes -= len(chunk)
        if self._buffered_bytes <= self._max_buffered_bytes // 2:
            self._resume()
        return stream, chunk

    def finish(self) -> None:
        """Take what is in the pipes now, however much waits already (a pipe holds 64 KiB), and end.

        No more than that: another process that holds a pipe may write for ever.
        """
        for pipe in list(self._open):
            waiting = _readable_bytes(pipe)
            while waiting > 0 and (size := self._read(pipe)):
                waiting -= size
        self.close()

    def hang_up(self, stream: Stream) -> None:
        """Read no more of it: the program gets SIGPIPE when it writes to it again. What was read remains."""
        for pipe in [pipe for pipe, its in self._open.items() if its == stream]:
            self._end(pipe)

    def close(self) -> None:
        """Stop reading. What was read remains to be taken."""
        for pipe in list(self._open):
            self._end(pipe)

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            for pipe in self._open:
                self._loop.add_reader(pipe, self._on_readable, pipe)

    def _pause(self) -> None:
        self._is_paused = True
        for pipe in self._open:
            self._loop.remove_reader(pipe)

    def _on_readable(self, pipe: IO[bytes]) -> None:
        self._read(pipe)
        if self._buffered_bytes >= self._max_buffered_bytes:
            self._pause()

    def _read(self, pipe: IO[bytes]) -> int:
        """Read once. Returns the number of bytes: none at the end, or if there was nothing to read."""
        try:
            chunk = os.read(pipe.fileno(), _READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            chunk = b""  # how a terminal ends
        if chunk:
            self._chunks.append((self._open[pipe], chunk))
            self._buffered_bytes += len(chunk)
            self._news.set()
        else:
            self._end(pipe)
        return len(chunk)

    def _end(self, pipe: IO[bytes]) -> None:
        self._loop.remove_reader(pipe)
        pipe.close()
        del self._open[pipe]
        self._news.set()


def _readable_bytes(pipe: IO[bytes]) -> int:
    answer = fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])
