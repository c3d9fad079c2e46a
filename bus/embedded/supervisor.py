"""The process that owns an embedded server: starts it, watches for users, and stops it after the last one.

It is run by its path in an isolated interpreter (``python -I -S supervisor.py PLAN``), so it imports nothing
but the standard library and starts in some 30 ms. It inherits the exclusive lock on the server's directory as
an open file, and so does the server: while either lives, no second server can open the same data.

Users hold a shared lock on one file. A process that can lock that file exclusively knows that there is no user, and
that none can come until it lets go: the supervisor stops the server under that lock. Locks vanish with the
processes that hold them, however they die, so there is no pid to go stale and nothing to clean up by hand.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

STARTING_TICK_SECONDS: Final = 0.02
RUNNING_TICK_SECONDS: Final = 0.1
# Longer than any fsync of a healthy disk; a server that hangs beyond it is killed, its log is on disk.
STOP_SECONDS: Final = 30.0
# Users reconnect by themselves to a server that crashed and is back, unless crashing is all it does.
MAX_CRASHES: Final = 5
CRASH_WINDOW_SECONDS: Final = 60.0
REPORTED_LOG_LINES: Final = 15
PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class LaunchPlan:
    """What to run, and where. Handed over as JSON on the command line."""

    command: tuple[str, ...]
    directory: str
    socket: str
    lock_descriptor: int
    users_path: str
    address_path: str
    log_path: str
    linger_seconds: float
    throwaway: bool

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        return cls(**{**fields, "command": tuple(fields["command"])})


def read_info(socket_path: str, *, timeout_seconds: float = 1.0) -> dict[str, str] | None:
    """What the server at this socket says of itself; None while no server answers there.

    It answers while it loads its data, too: an answer alone does not mean that it is ready.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, contextlib.suppress(OSError):
        connection.settimeout(timeout_seconds)
        connection.connect(socket_path)
        connection.sendall(b"INFO server persistence\r\n")
        with connection.makefile("rb") as replies:
            header = replies.readline()
            if header[:1] == b"$" and header[1:].strip().isdigit():
                lines = replies.read(int(header[1:])).decode("ascii", "replace").splitlines()
                return dict(line.split(":", 1) for line in lines if ":" in line)
    return None


def run_id_when_ready(info: dict[str, str] | None) -> str | None:
    """The id that the server gave itself at its start; None until it has loaded all of its data."""
    return info.get("run_id") if info is not None and info.get("loading") == "0" else None


def die_with_parent(parent_pid: int) -> Callable[[], None]:
    """For the child between fork and exec: have the kernel stop it cleanly should the supervisor be killed.

    The signal is tied to the parent's *thread*; the supervisor has only one, so that is the process. Where
    there is no such call (macOS) a server outlives a supervisor that was itself killed with SIGKILL.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:  # it died before the call
            os._exit(1)

    return arm


class Supervisor:
    def __init__(self, plan: LaunchPlan, users: BinaryIO) -> None:
        self._plan = plan
        self._users = users
        self._told_to_stop = False
        self._idle_since: float | None = None
        self._crashes: deque[float] = deque(maxlen=MAX_CRASHES)

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._stop_soon)
        # Ctrl-C and a closed terminal are for the users; the server goes when the last of them has gone.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._forget_address()
        self._set_old_log_aside()
        try:
            while self._run_once():
                pass
        finally:
            self._forget_address()
            with contextlib.suppress(FileNotFoundError):
                Path(self._plan.socket).unlink()
            if self._plan.throwaway:
                shutil.rmtree(self._plan.directory, ignore_errors=True)

    def _run_once(self) -> bool:
        """Run one server until it ends or must end; True when it crashed and should be started again."""
        child: subprocess.Popen[bytes] | None = None
        try:
            child = self._spawn()
            crashed = self._watch(child)
        except OSError as error:
            report({"error": str(error)})
            return False
        finally:
            self._forget_address()
            if child is not None:
                _end(child)
        # Without its log on disk a restarted server would be empty: better to be seen missing.
        return crashed and not self._plan.throwaway and not self._crashes_too_often()

    def _spawn(self) -> subprocess.Popen[bytes]:
        # What it says before it knows its log file belongs into the log too, so both are one file.
        with Path(self._plan.log_path).open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the command comes from our own plan
                self._plan.command,
                cwd=self._plan.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._plan.lock_descriptor,),
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 - this process has one thread
            )

    def _watch(self, child: subprocess.Popen[bytes]) -> bool:
        ready = False
        while not self._told_to_stop and not self._is_deserted():
            if child.poll() is not None:
                if not ready:
                    report({"exit_code": child.returncode, "log": self._last_log_lines()})
                # Exit code 0 was an orderly end: the server was stopped on purpose.
                return ready and child.returncode != 0
            if not ready and (run_id := run_id_when_ready(read_info(self._plan.socket))) is not None:
                ready = True
                self._publish_address(run_id)
                report({"ready": True})
            time.sleep(RUNNING_TICK_SECONDS if ready else STARTING_TICK_SECONDS)
        return False

    def _crashes_too_often(self) -> bool:
        self._crashes.append(time.monotonic())
        oldest = self._crashes[0]
        return len(self._crashes) == MAX_CRASHES and self._crashes[-1] - oldest < CRASH_WINDOW_SECONDS

    def _is_deserted(self) -> bool:
        """True when the server had no user for the time to linger. No user can come from then on."""
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._idle_since = None
            return False
        now = time.monotonic()
        self._idle_since = now if self._idle_since is None else self._idle_since
        if now - self._idle_since >= self._plan.linger_seconds:
            return True
        fcntl.flock(self._users, fcntl.LOCK_UN)
        return False

    def _stop_soon(self, _number: int, _frame: object) -> None:
        self._told_to_stop = True

    def _publish_address(self, run_id: str) -> None:
        whole = Path(self._plan.address_path + ".new")
        whole.write_text(json.dumps({"socket": self._plan.socket, "run_id": run_id}))
        whole.replace(self._plan.address_path)

    def _forget_address(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(self._plan.address_path).unlink()

    def _set_old_log_aside(self) -> None:
        """Keeps the log of this run and the one before: enough to see why a server died, and bounded."""
        with contextlib.suppress(FileNotFoundError):
            Path(self._plan.log_path).replace(self._plan.log_path + ".old")

    def _last_log_lines(self) -> list[str]:
        with contextlib.suppress(OSError):
            return Path(self._plan.log_path).read_text(errors="replace").splitlines()[-REPORTED_LOG_LINES:]
        return []


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def report(outcome: dict[str, object]) -> None:
    """Tell the starter, once: it does not listen any longer."""
    # The starter may have given up or died meanwhile: then the watch for users decides what becomes of us.
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(outcome).encode())
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)


def main() -> None:
    plan = LaunchPlan.from_json(sys.argv[1])
    # The starter waits for its child and reaps it at once; we live on as a child of init and leave no zombie.
    if os.fork():
        os._exit(0)
    os.chdir("/")
    # What the server writes is for this user alone, whatever directory it was given.
    os.umask(0o077)
    with Path(plan.users_path).open("ab") as users:
        Supervisor(plan, users).run()


if __name__ == "__main__":
    main()
