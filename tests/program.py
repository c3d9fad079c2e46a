"""A program of the tests, as a process of its own that may be killed, frozen or asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import IO, Literal

from pydantic import BaseModel

from tests.child import Child


class Program(Child):
    """``python -m MODULE``, given on its input, as JSON, what it is to do. Killed on leaving.

    Of its two outputs one is kept: ``stdout`` of who says how it goes, ``stderr`` of who may fail.
    """

    def __init__(self, module: str, order: BaseModel, *, keeps: Literal["stdout", "stderr"]) -> None:
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", module],
            env=os.environ.copy(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if keeps == "stdout" else subprocess.DEVNULL,
            stderr=subprocess.PIPE if keeps == "stderr" else subprocess.DEVNULL,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(order.model_dump_json().encode())
        self._process.stdin.close()
        self._process.stdin = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> float:
        """SIGKILL, and wait until it is gone; when that was, in Unix seconds."""
        self._process.kill()
        died = time.time()
        self._process.wait()
        return died

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def read_line(self) -> str:
        """The next line that it says; nothing at the end. Blocks."""
        return self._kept.readline().decode().strip()

    def _ended(self) -> None:
        self._kept.close()

    @property
    def _kept(self) -> IO[bytes]:
        kept = self._process.stdout or self._process.stderr
        assert kept is not None
        return kept
