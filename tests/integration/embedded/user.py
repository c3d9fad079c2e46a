"""A user of an embedded server in a process of its own: `User` drives it, `main` is what runs there.

Each line of its standard input is a command, each line of its output the answer.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.asyncio import Redis

from tailrace.bus.embedded import EmbeddedServer, start_embedded
from tests.patience import patient

REPOSITORY = Path(__file__).resolve().parents[3]


class User:
    """`path` empty is the throw-away server. Its own process group, so that it alone can be signalled."""

    def __init__(self, path: str | Path = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.embedded.user", str(path)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            process_group=0,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: str) -> str:
        """`open` answers with the url; `close`; `incr KEY N` adds one N times and answers with the sum."""
        self.tell(command)
        return self.answer()

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")

    def answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the user died"
        return line

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        # Its reading thread ends with its input, and only then can the interpreter end in an orderly way.
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(patient(20))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()


async def main(path: str) -> None:
    server: EmbeddedServer | None = None
    while command := await asyncio.to_thread(sys.stdin.readline):
        match command.split():
            case ["open"]:
                server = await start_embedded(path or None)
                print(server.url, flush=True)
            case ["close"]:
                assert server is not None
                await server.close()
                print("closed", flush=True)
            case ["incr", key, times]:
                assert server is not None
                async with Redis.from_url(server.url) as client:
                    value = 0
                    for _ in range(int(times)):
                        value = await client.incr(key)
                print(value, flush=True)
            case ["exit"]:  # without closing anything
                return
            case unknown:
                raise ValueError(unknown)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
