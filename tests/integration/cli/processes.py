"""``tailrace`` as a user starts it, and everything that it starts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.patience import patient

FAMILY_VARIABLE: Final = "TAILRACE_TEST_FAMILY"
TAILRACE: Final = (sys.executable, "-P", "-m", "tailrace")


def call(*arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [*TAILRACE, *arguments],
        env={**os.environ, **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=patient(60),
        check=False,
    )


def shown_on_terminal(*arguments: str, columns: int, env: Mapping[str, str]) -> bytes:
    """What one command shows on a terminal of that width, once it has ended well."""
    screen, ours = os.openpty()
    termios.tcsetwinsize(ours, (24, columns))
    with subprocess.Popen(
        [*TAILRACE, *arguments], stdin=subprocess.DEVNULL, stdout=ours, stderr=ours, env={**os.environ, **env}
    ) as process:
        os.close(ours)
        shown = bytearray()
        with contextlib.suppress(OSError):  # how a terminal ends
            while chunk := os.read(screen, 65_536):
                shown += chunk
        os.close(screen)
    assert process.returncode == 0, shown
    return bytes(shown)


class Family:
    """One ``tailrace`` process and all its descendants, which its environment marks, wherever they may hide."""

    def __init__(
        self,
        output: Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = TAILRACE,
        cwd: Path | None = None,
    ) -> None:
        self.mark = uuid4().hex
        self._output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [*program, *arguments],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {}), FAMILY_VARIABLE: self.mark},
            )

    @property
    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def await_words(self, words: str, *, seconds: float = 40.0) -> str:
        wait_until(lambda: words in self.said or self.process.poll() is not None, seconds=seconds)
        assert words in self.said, f"it ended with {self.process.poll()} and said:\n{self.said}"
        return self.said

    def members(self) -> dict[int, str]:
        return relatives(self.mark)

    def member(self, *words: str) -> int:
        """The one process whose command line has all these words."""
        found = [pid for pid, command in self.members().items() if all(word in command for word in words)]
        assert len(found) == 1, f"{words} are {found} of {self.members()}"
        return found[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, *, seconds: float = 40.0) -> int:
        return self.process.wait(patient(seconds))

    def await_nobody(self, *, seconds: float = 10.0) -> None:
        wait_until(lambda: not self.members(), seconds=seconds, what=lambda: f"left behind: {self.members()}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def family(
    output: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = TAILRACE,
    cwd: Path | None = None,
) -> Iterator[Family]:
    started = Family(output, *arguments, env=env, program=program, cwd=cwd)
    try:
        yield started
    finally:
        started.close()


def relatives(mark: str) -> dict[int, str]:
    """Process id to command line of all living processes with this mark, and of their children.

    Valkey writes its title over its environment, so it is found as the child of its supervisor.
    """
    needle = f"{FAMILY_VARIABLE}={mark}".encode()
    marked, parents, commands = set(), {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(entry.name)
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state == "Z":
                continue
            parents[pid] = int(parent)
            commands[pid] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                marked.add(pid)
    return {pid: command for pid, command in commands.items() if pid in marked or parents[pid] in marked}


def wait_until(
    condition: Callable[[], bool], *, seconds: float = 15.0, what: Callable[[], str] = lambda: "not so"
) -> None:
    deadline = time.monotonic() + patient(seconds)
    while not condition():
        assert time.monotonic() < deadline, f"{what()} within {seconds:g} s"
        time.sleep(0.02)
