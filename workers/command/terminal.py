"""A terminal of a program's own for what it writes, so that it shows colours and progress as to a person."""

from __future__ import annotations

import contextlib
import os
import pty
import termios
from typing import IO, NamedTuple, Self

_OUTPUT_FLAGS = 1


class Size(NamedTuple):
    rows: int
    columns: int

    @classmethod
    def of(cls, descriptor: int) -> Self:
        """Raises OSError for what is not a terminal."""
        return cls(*termios.tcgetwinsize(descriptor))


class Terminal:
    """The program writes to ``slave``, what it wrote is read from ``output`` byte for byte: nothing is added to it."""

    def __init__(self, size: Size) -> None:
        """Raises OSError when there is no terminal to be had."""
        master, self.slave = pty.openpty()
        self.output: IO[bytes] = open(master, "rb", buffering=0)  # noqa: SIM115, PTH123 - closed by its reader
        attributes = termios.tcgetattr(self.slave)
        # The terminal in front of the person makes "\r\n" of "\n" itself.
        attributes[_OUTPUT_FLAGS] &= ~termios.OPOST
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        self.resize(size)

    def resize(self, size: Size) -> None:
        with contextlib.suppress(OSError, ValueError):  # it has been closed
            termios.tcsetwinsize(self.output.fileno(), size)

    def close_slave(self) -> None:
        """Once the program has it: its end is the end of the output."""
        os.close(self.slave)
