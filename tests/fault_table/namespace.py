"""A host of its own for some of the processes: a network namespace, whose link can be made to swallow everything."""

from __future__ import annotations

import os
import subprocess
from types import TracebackType
from typing import Self

_NOBODY = "02:00:00:00:00:99"


class Namespace:
    """Made on entering; needs root and ``ip``. ``host`` is this machine as both sides see it."""

    def __init__(self) -> None:
        pid = os.getpid()
        self.name = f"tailrace-{pid}"
        # Several may run at a time.
        network = f"10.{200 + pid // 256 % 50}.{pid % 256}"
        self.host, self._guest = f"{network}.1", f"{network}.2"
        self._outer, self._inner = f"tro{pid}", f"tri{pid}"

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._outer, "type", "veth", "peer", "name", self._inner)
        _ip("link", "set", self._inner, "netns", self.name)
        _ip("addr", "add", f"{self.host}/24", "dev", self._outer)
        _ip("link", "set", self._outer, "up")
        _ip("-n", self.name, "addr", "add", f"{self._guest}/24", "dev", self._inner)
        _ip("-n", self.name, "link", "set", self._inner, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _ip("link", "del", self._outer)
        _ip("netns", "del", self.name)

    def inside(self, command: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def swallow(self) -> None:
        """Packets go to a card that is not there: nobody gets them, and nobody is told."""
        _ip("neigh", "replace", self._guest, "lladdr", _NOBODY, "dev", self._outer, "nud", "permanent")
        _ip("-n", self.name, "neigh", "replace", self.host, "lladdr", _NOBODY, "dev", self._inner, "nud", "permanent")

    def heal(self) -> None:
        _ip("neigh", "del", self._guest, "dev", self._outer)
        _ip("-n", self.name, "neigh", "del", self.host, "dev", self._inner)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
