"""Where the program's output is shown to the person who started it, beside the log."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping
from functools import partial

from tailrace.workers.command.errors import CommandScreenError
from tailrace.workers.command.lines import Stream
from tailrace.workers.command.terminal import Size
from tailrace.workers.thread_call import in_thread


class Screen:
    """Our own output streams, or what else has these file descriptors. It gets each byte as the program wrote it.

    A pipe that is not read blocks a thread and never the event loop: then the program waits, as it would with that
    pipe as its own.
    """

    def __init__(self, descriptors: Mapping[Stream, int]) -> None:
        self._descriptors = dict(descriptors)
        self._resized: Callable[[Mapping[Stream, Size]], None] | None = None

    def terminals(self) -> dict[Stream, Size]:
        """The streams that are terminals, with their sizes."""
        return {
            stream: Size.of(descriptor) for stream, descriptor in self._descriptors.items() if os.isatty(descriptor)
        }

    def on_resize(self, call: Callable[[Mapping[Stream, Size]], None]) -> None:
        """Have it called with the sizes of the terminals by ``resize``."""
        self._resized = call

    def resize(self) -> None:
        """Tell the program that the person's terminal has another size. For SIGWINCH."""
        if self._resized is not None:
            self._resized(self.terminals())

    async def write(self, stream: Stream, chunk: bytes) -> bool:
        """Returns False when its reader is gone. Raises CommandScreenError for a full disk, say."""
        descriptor = self._descriptors.get(stream)
        if descriptor is None:
            return True
        try:
            await in_thread(f"screen-{stream}", partial(_write_all, descriptor, chunk))
        except BrokenPipeError:
            del self._descriptors[stream]
            return False
        except OSError as error:
            raise CommandScreenError(stream, error.strerror or str(error)) from error
        return True


def _write_all(descriptor: int, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # somebody whose end it is too made it non-blocking
            select.select([], [descriptor], [])
