"""A proxy in front of gateways, as a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.child import Child
from tests.e2e.docs_support_page import Page
from tests.patience import patient

READY_SECONDS: Final = 20.0
RUNNING: Final = Path(__file__).parents[3] / "docs/running.md"


class Proxy(Child):
    """Passes requests on to gateways."""

    def __init__(self, url: str, command: Sequence[str], output: Path) -> None:
        self.url = url
        self._output = output
        with output.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file)

    def await_ready(self) -> None:
        """Return when it passes requests on. Raises AssertionError with what it said."""
        deadline = time.monotonic() + patient(READY_SECONDS)
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the proxy did not become ready: {self._output.read_text()}")


def documented(language: str, addresses: Mapping[str, str]) -> str:
    """The configuration that docs/running.md shows, with nothing replaced but these addresses, each there once."""
    (text,) = Page("docs/running.md", RUNNING.read_text()).blocks_of(language)
    for shown, ours in addresses.items():
        assert text.count(shown) == 1, f"{shown} is there {text.count(shown)} times:\n{text}"
        text = text.replace(shown, ours)
    return text


def find(program: str, package: str) -> str:
    """Where a tool is; skips where it is not, and fails where CI wants it."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found is None:
        message = f"{program} is not on the PATH; install it with: apt install {package}"
        if os.environ.get("TAILRACE_CI_REQUIRE") == "1":
            pytest.fail(f"CI requires every tool: {message}")
        pytest.skip(message)
    return found
