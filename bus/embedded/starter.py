"""Starts the supervisor of a directory and hears from it how that went."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, Final, cast

from tailrace.bus.embedded import supervisor
from tailrace.bus.embedded.binary import ANOTHER_SERVER, find_binary
from tailrace.bus.embedded.diagnosis import explain_exit
from tailrace.bus.embedded.file_lock import try_exclusive
from tailrace.bus.embedded.layout import Layout
from tailrace.bus.embedded.supervisor import LaunchPlan
from tailrace.bus.errors import EmbeddedServerError

# Commands come one after the other on a command line; each would start the server anew.
LINGER_SECONDS: Final = 1.0


class Launch:
    """A supervisor that was started and has not said yet how it went."""

    def __init__(self, process: subprocess.Popen[bytes], layout: Layout, binary: Path) -> None:
        self._process = process
        self._layout = layout
        self._binary = binary
        self._said = {cast("IO[bytes]", pipe): b"" for pipe in (process.stdout, process.stderr)}
        self._listening = set(self._said)
        for pipe in self._listening:
            os.set_blocking(pipe.fileno(), False)

    def is_settled(self) -> bool:
        """Whether it has said that the server is ready. Raises EmbeddedServerError when it cannot be."""
        for pipe in tuple(self._listening):
            while (said := pipe.read()) is not None:  # None: nothing yet
                self._said[pipe] += said
                if not said:
                    self._listening.discard(pipe)
                    break
        if self._listening:
            return False
        self.close()
        output, complaint = self._said.values()
        _raise_unless_ready(output, complaint, self._layout, self._binary)
        return True

    def close(self) -> None:
        """Listen no more. A supervisor that is under way goes on as long as the server has users."""
        self._process.kill()
        with self._process:
            pass


async def start_unless_running(layout: Layout, *, throwaway: bool) -> Launch | None:
    """Start the server; None if one is running or starting.

    Raises OSError when the directory cannot be used, EmbeddedServerError when no server can be run here.
    """
    binary = await asyncio.to_thread(find_binary)
    # From here on without a pause: a cancelled caller could not take what was launched.
    lock = try_exclusive(layout.server_lock)
    if lock is None:
        return None
    # Supervisor and server inherit the lock as it is, so that there is no moment at which it is free.
    with lock:
        layout.close_to_others()
        socket = layout.choose_socket()
        plan = LaunchPlan(
            command=layout.command(binary, socket, persistent=not throwaway),
            directory=str(layout.directory),
            socket=str(socket),
            lock_descriptor=lock.fileno(),
            users_path=str(layout.users),
            address_path=str(layout.address),
            log_path=str(layout.log),
            linger_seconds=0.0 if throwaway else LINGER_SECONDS,
            throwaway=throwaway,
        )
        return Launch(_launch(plan), layout, binary)


def _launch(plan: LaunchPlan) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and script
            [sys.executable, "-I", "-S", supervisor.__file__, plan.to_json()],
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(plan.lock_descriptor,),
            start_new_session=True,  # or Ctrl-C in the user's shell would end it before its users
        )
    except OSError as error:
        raise EmbeddedServerError(f"the embedded server could not be run: {error}; {ANOTHER_SERVER}") from error


def _raise_unless_ready(output: bytes, complaint: bytes, layout: Layout, binary: Path) -> None:
    outcome: dict[str, Any] = json.loads(output) if output else {}
    if outcome.get("ready"):
        return
    if "exit_code" in outcome:
        free_bytes = _free_bytes(layout.directory)
        raise EmbeddedServerError(
            explain_exit(outcome["exit_code"], outcome["log"], layout=layout, binary=binary, free_bytes=free_bytes)
        )
    reason = outcome.get("error") or complaint.decode(errors="replace").strip().rpartition("\n")[2] or "it was killed"
    raise EmbeddedServerError(f"the embedded server of {layout.directory} could not be run: {reason}; {ANOTHER_SERVER}")


def _free_bytes(directory: Path) -> int:
    try:
        return shutil.disk_usage(directory).free
    except FileNotFoundError:
        # A throw-away one goes with its supervisor, which has just told us how it ended.
        return shutil.disk_usage(directory.parent).free


def read_log(layout: Layout) -> list[str]:
    try:
        return layout.log.read_text(errors="replace").splitlines()
    except OSError:
        return []
