"""One of several processes, as its supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Self

import orjson
from prometheus_client.core import Metric

from tailrace.bus.ops.supervised import VARIABLE
from tailrace.cli.processes.children import ending_of
from tailrace.cli.processes.parent_pipe import ParentPipe
from tailrace.cli.processes.totals import read

ANSWER_SECONDS: Final = 2.0
# Some hundred lines of metrics take some ten kilobytes.
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024

MetricsOfAll = Callable[[], Awaitable[bytes]]


class Member:
    """``number`` tells it from the others of the same supervisor; it is used again when it has ended."""

    def __init__(self, number: int, process: Process, line: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.number = number
        self.pid = process.pid
        self.ready: asyncio.Future[tuple[str, list[str]]] = asyncio.get_running_loop().create_future()
        self.metrics: list[Metric] = []
        self._process = process
        self._reader, self._writer = line
        self._answers: list[asyncio.Future[None]] = []
        self._listening: asyncio.Task[None]
        self.ended: asyncio.Task[int]

    @classmethod
    async def start(
        cls,
        number: int,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        pipe: ParentPipe,
        metrics_of_all: MetricsOfAll,
    ) -> Self:
        """Run ``tailrace <arguments>`` with our own output, in a session of its own: Ctrl-C reaches us alone."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "tailrace", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, **environment, **pipe.environment(), VARIABLE: str(theirs.fileno())},
                pass_fds=(theirs.fileno(), pipe.read_descriptor),
                start_new_session=True,
            )
        member = cls(number, process, await asyncio.open_connection(sock=ours, limit=_MAX_LINE_BYTES))
        member._listening = asyncio.create_task(member._listen(metrics_of_all))
        member.ended = asyncio.create_task(member._end())
        return member

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit code, once all that it reported was read; minus a signal's number."""
        return await asyncio.shield(self.ended)

    async def became_ready(self, timeout_seconds: float) -> str | None:
        """None when it is; otherwise what it did instead, for a sentence."""
        either: list[asyncio.Future[Any]] = [self.ended, self.ready]
        await asyncio.wait(either, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done():
            return ending_of(self.ended.result())
        return None if self.ready.done() else f"was not ready within {timeout_seconds:g} s"

    def signal(self, order: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(order)

    async def asked_for_metrics(self) -> bool:
        """Whether it answered in time; ``metrics`` are what it told last, however long ago."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._send(give="metrics")
        done, _ = await asyncio.wait([answer], timeout=ANSWER_SECONDS)
        return bool(done)

    async def _end(self) -> int:
        code = await self._process.wait()
        # What it started may have the line as well, and outlive it for a moment.
        await asyncio.wait([self._listening], timeout=ANSWER_SECONDS)
        return code

    async def _listen(self, metrics_of_all: MetricsOfAll) -> None:
        answering: set[asyncio.Task[None]] = set()
        try:
            with contextlib.suppress(OSError):
                async for line in self._reader:
                    message = orjson.loads(line)
                    if "ready" in message and not self.ready.done():
                        self.ready.set_result((message["ready"], message["details"]))
                    elif "metrics" in message:
                        self.metrics = read(message["metrics"])
                        for answer in self._answers:
                            if not answer.done():
                                answer.set_result(None)
                        self._answers.clear()
                    elif "ask" in message:
                        # It asks all of us, and this one too, whom we must go on reading.
                        answering.add(task := asyncio.create_task(self._tell(message["ask"], metrics_of_all)))
                        task.add_done_callback(answering.discard)
        finally:
            self._writer.close()

    async def _tell(self, asked: int, metrics_of_all: MetricsOfAll) -> None:
        self._send(ask=asked, of_all=(await metrics_of_all()).decode())

    def _send(self, **message: object) -> None:
        if not self._writer.is_closing():
            self._writer.write(orjson.dumps(message) + b"\n")
