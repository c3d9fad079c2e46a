"""Lua scripts, called by their digest and loaded when Redis does not know them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from tailrace.bus.errors import ReplyError
from tailrace.bus.redis.commands import Commands


@dataclass(frozen=True, slots=True)
class Script:
    source: str
    digest: str

    @classmethod
    def load(cls, name: str, **inserts: str) -> Script:
        """Read ``scripts/NAME.lua``; ``--@word`` in it stands for the insert of that name."""
        source = files("tailrace.bus").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8")
        for word, text in inserts.items():
            source = source.replace(f"--@{word}", text)
        return cls(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())

    async def run(self, commands: Commands, keys: tuple[str, ...], *arguments: bytes | str | int) -> Any:
        try:
            return await commands.command("EVALSHA", self.digest, len(keys), *keys, *arguments)
        except ReplyError as error:
            if error.code != "NOSCRIPT":
                raise
        return await commands.command("EVAL", self.source, len(keys), *keys, *arguments)


# Lua's stack holds some 8,000 arguments.
SCRIPT_CHUNK: Final = 1000
EXPIRING: Final = Script.load("expiring")
