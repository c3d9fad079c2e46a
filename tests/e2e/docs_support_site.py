"""Where the documentation's code is run: a server, a gateway and a worker, and a folder to be in."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tailrace.cli.processes.local import announced_url
from tests.e2e.docs_support_page import Block
from tests.integration.cli.processes import family
from tests.patience import patient
from tests.servers import spawn_server

DOCUMENTED_GATEWAY: Final = "127.0.0.1:8080"
BLOCK_SECONDS: Final = 60.0
RUN: Final = {"python": "block.py", "sh": "block.sh", "js": "block.mjs"}
# What a newcomer may lack; a block that calls one of them is run where it is installed.
TOOLS: Final = ("curl", "redis-cli")
OLDEST_NODE: Final = (20, 18)
_NODE_OPTIONS: Final = ("--no-warnings", "--experimental-eventsource", "--experimental-websocket")

# A page's relative URL is relative to where the page came from, which Node has to be told.
_PRELUDE: Final = """
const base = process.env.TAILRACE_GATEWAY;
const { EventSource: Native, fetch: nativeFetch } = globalThis;
globalThis.EventSource = class extends Native {
  constructor(url, init) { super(new URL(url, base), init); }
};
globalThis.fetch = (url, init) => nativeFetch(new URL(url, base), init);
"""


class ToolMissingError(Exception):
    """This machine cannot run the block; the message names what it lacks."""


@dataclass(frozen=True)
class Site:
    directory: Path
    gateway: str
    environment: dict[str, str]

    def run(self, block: Block) -> None:
        """Run a block as it stands. Raises ToolMissingError, AssertionError."""
        command = _interpreter(block)
        script = self.directory / RUN[block.language]
        script.write_text(block.text.replace(DOCUMENTED_GATEWAY, self.gateway.removeprefix("http://")))
        ran = subprocess.run(
            [*command, str(script)],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patient(BLOCK_SECONDS),
            check=False,
        )
        assert ran.returncode == 0, f"{block.place} ended with {ran.returncode}:\n{block.text}\n---\n{ran.stdout}"
        # A script in Node ends well also when nothing came that it waited for.
        assert ran.stdout or block.language != "js", f"{block.place} printed nothing"


@contextlib.contextmanager
def open_site(directory: Path, readme: Path) -> Iterator[Site]:
    """The keys have their documented prefix, so the server is the page's own; it listens on TCP, as redis-cli wants."""
    (directory / "prelude.mjs").write_text(_PRELUDE)
    # An answer such as 404 is no success.
    (directory / ".curlrc").write_text("fail\nsilent\nshow-error\n")
    shutil.copy(readme, directory / "README.md")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(spawn_server("valkey", directory=directory, port=0))
        # The others announce themselves when they can be used.
        start = ("--redis-url", server.url)
        worker = stack.enter_context(
            family(directory / "worker.log", "worker", "--document-root", str(directory), *start)
        )
        gateway = stack.enter_context(family(directory / "gateway.log", "gateway", "--port", "0", *start))
        worker.await_words("worker ready")
        url = announced_url(gateway.await_words("gateway ready at"))
        assert url is not None
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")},
            "TAILRACE_REDIS_URL": server.url,
            "TAILRACE_GATEWAY": url,
            "TAILRACE_TEST_SESSION": os.environ["TAILRACE_TEST_SESSION"],
            "CURL_HOME": str(directory),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        yield Site(directory, url, environment)


def _interpreter(block: Block) -> list[str]:
    words = set(block.text.split())
    for tool in TOOLS:
        if tool in words and shutil.which(tool) is None:
            raise ToolMissingError(f"{block.place} calls {tool}")
    match block.language:
        case "python":
            return [sys.executable, "-W", "error"]
        case "sh":
            return ["sh", "-eu"]
        case _:
            return [_node(block.place), *_NODE_OPTIONS, "--import", "./prelude.mjs"]


def _node(place: str) -> str:
    node = shutil.which("node")
    if node is None:
        raise ToolMissingError(f"{place} is for node")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=patient(30), check=True).stdout
    version = tuple(int(part) for part in said.strip().removeprefix("v").split(".")[:2])
    if version < OLDEST_NODE:
        raise ToolMissingError(f"{place} is for node {'.'.join(map(str, OLDEST_NODE))}, this is {said.strip()}")
    return node
