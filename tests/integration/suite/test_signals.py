"""The suite may be a background job, or be started with nohup."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
import subprocess
import tests.conftest
subprocess.run(["grep", "SigIgn", "/proc/self/status"], check=True)
"""


def test_what_tests_start_has_default_signals_though_the_suite_was_started_with_some_ignored() -> None:
    said = subprocess.run(
        ["sh", "-c", 'trap "" INT HUP QUIT TERM; exec "$0" -c "$1"', sys.executable, PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    ignored = int(said.split()[1], 16)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        assert not ignored & 1 << (number - 1), number
