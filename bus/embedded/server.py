from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tailrace.bus.embedded.diagnosis import explain_os_error, explain_timeout
from tailrace.bus.embedded.file_lock import POLL_SECONDS, FileLock, is_taken
from tailrace.bus.embedded.layout import Layout, socket_url
from tailrace.bus.embedded.private import PrivateDirectory
from tailrace.bus.embedded.starter import Launch, read_log, start_unless_running
from tailrace.bus.embedded.supervisor import read_info, run_id_when_ready
from tailrace.bus.errors import EmbeddedServerError
from tailrace.bus.redis.loading import LoadingNotice, progress

START_TIMEOUT_SECONDS: Final = 15.0
# How often one who waits looks whether the server is loading.
LOOK_SECONDS: Final = 0.25
# A throw-away server's supervisor looks for users ten times a second, and nothing has to be saved.
VANISH_SECONDS: Final = 5.0

_private: Final = PrivateDirectory()


class EmbeddedServer:
    """One user's hold on an embedded server, which runs until the last hold is closed or its process is dead.

    `url` is for redis-py's `from_url`; `directory` is absolute and free of symbolic links.
    """

    def __init__(self, url: str, directory: Path, lease: FileLock, *, throwaway: bool) -> None:
        self.url: Final = url
        self.directory: Final = directory
        self._lease: Final = lease
        self._throwaway: Final = throwaway
        self._closed = False

    async def close(self) -> None:
        """Idempotent. Returns at once; the last user of a throw-away server waits until all of it is gone."""
        if self._closed:
            return
        self._closed = True
        self._lease.release()
        if self._throwaway:
            await _leave_private(self.directory)

    def is_running(self) -> bool:
        """Or about to: a server that crashed is started again by its supervisor, a few times."""
        return is_taken(Layout(self.directory).server_lock)

    def last_words(self, lines: int) -> str:
        """The end of the log of the server that runs, or ran last."""
        return "\n".join(f"    {line}" for line in read_log(Layout(self.directory))[-lines:])

    async def restart(self) -> None:
        """Start it again at the same URL, with its data, once it has gone for good. Raises EmbeddedServerError."""
        await _ready(Layout(self.directory), throwaway=self._throwaway, timeout_seconds=START_TIMEOUT_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def start_embedded(path: str | None, *, start_timeout_seconds: float = START_TIMEOUT_SECONDS) -> EmbeddedServer:
    """Attach to the server of a directory, having started it if none is running.

    With a path: a directory, made if missing; data is kept in it (append-only file, fsynced every second),
    and all processes that name the same directory share one server. Without: a throw-away server in memory,
    shared within this process. The time that the server takes to load its data does not count against
    ``start_timeout_seconds``; it is logged. Raises EmbeddedServerError, one sentence with its cure.
    """
    if path:
        return await _open(_resolve(path), throwaway=False, timeout_seconds=start_timeout_seconds)
    try:
        directory = _private.enter()
    except OSError as error:
        raise EmbeddedServerError(f"no place for temporary files ({error}); set TMPDIR to a directory") from error
    try:
        return await _open(directory, throwaway=True, timeout_seconds=start_timeout_seconds)
    except BaseException:
        await _leave_private(directory)
        raise


async def _open(directory: Path, *, throwaway: bool, timeout_seconds: float) -> EmbeddedServer:
    layout = Layout(directory)
    lease: FileLock | None = None
    try:
        with _explained(layout, timeout_seconds):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Before the first look at the server: while we hold it, a running server cannot decide to stop.
            async with asyncio.timeout(timeout_seconds):
                lease = await FileLock.acquire(layout.users)
        url = await _ready(layout, throwaway=throwaway, timeout_seconds=timeout_seconds)
    except BaseException:
        if lease is not None:
            lease.release()
        raise
    return EmbeddedServer(url, directory, lease, throwaway=throwaway)


async def _ready(layout: Layout, *, throwaway: bool, timeout_seconds: float) -> str:
    """The URL, as soon as the server there serves."""
    with _explained(layout, timeout_seconds):
        async with asyncio.timeout(timeout_seconds) as limit:
            return await _attach_or_start(layout, throwaway=throwaway, timeout_seconds=timeout_seconds, limit=limit)


@contextmanager
def _explained(layout: Layout, timeout_seconds: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise EmbeddedServerError(explain_timeout(timeout_seconds, read_log(layout), layout)) from None
    except OSError as error:
        raise EmbeddedServerError(explain_os_error(error, layout)) from error


async def _attach_or_start(layout: Layout, *, throwaway: bool, timeout_seconds: float, limit: asyncio.Timeout) -> str:
    loop = asyncio.get_running_loop()
    loading = LoadingNotice(f"embedded server of {layout.directory}")
    look_at = loop.time() + LOOK_SECONDS
    launch: Launch | None = None
    try:
        while (url := await asyncio.to_thread(_find_running, layout)) is None:
            if launch is None:
                launch = await start_unless_running(layout, throwaway=throwaway)
            elif launch.is_settled():
                launch = None
            if loop.time() >= look_at:
                info = await asyncio.to_thread(read_info, str(layout.choose_socket()))
                if info is not None and info.get("loading") != "0":
                    loading.tell(progress(info))
                    # However much data there is: only a server that makes no progress is given up.
                    limit.reschedule(loop.time() + timeout_seconds)
                look_at = loop.time() + LOOK_SECONDS
            await asyncio.sleep(POLL_SECONDS)
    finally:
        if launch is not None:
            launch.close()
    return url


def _find_running(layout: Layout) -> str | None:
    """The server's URL, if the very server that is written down there answers.

    What a crash left behind may point to no server, or to another one: the run id tells.
    """
    try:
        address = json.loads(layout.address.read_text())
        socket, run_id = str(address["socket"]), address["run_id"]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return socket_url(socket) if run_id and run_id_when_ready(read_info(socket)) == run_id else None


async def _leave_private(directory: Path) -> None:
    if not _private.leave(directory):
        return
    deadline = time.monotonic() + VANISH_SECONDS
    lock = Layout(directory).server_lock
    while is_taken(lock) and time.monotonic() < deadline:  # noqa: ASYNC110 - another process sets no Event
        await asyncio.sleep(POLL_SECONDS)
    # The supervisor has done it, unless it never ran or was killed.
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _resolve(path: str) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (ValueError, RuntimeError, OSError) as error:  # a zero byte, an unknown ~user, a loop of links
        raise EmbeddedServerError(f"{path!r} is not a usable path ({error}); choose another directory") from error
