from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.processes import TAILRACE, call, family, wait_until


@pytest.fixture
def env(server_url: str, prefix: str) -> dict[str, str]:
    return {"TAILRACE_REDIS_URL": server_url, "TAILRACE_PREFIX": prefix}


def events_of(execution_id: str, env: dict[str, str]) -> list[dict[str, object]]:
    done = call("tail", execution_id, "--redis-url", env["TAILRACE_REDIS_URL"], "--json", env=env)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -TERM $$"), 128 + signal.SIGTERM),
        (("tailrace-no-such-program",), 127),
        (("/",), 126),
    ],
)
def test_the_exit_code_is_the_programs(argv: tuple[str, ...], code: int, env: dict[str, str]) -> None:
    done = call("run", "--id", "x", "--", *argv, env=env)

    assert done.returncode == code
    assert "Traceback" not in done.stderr
    ending = events_of("x", env)[-1]["type"]
    assert ending == ("execution.completed" if code == 0 else "execution.failed")


def test_lines_come_out_as_they_went_in_and_are_events(env: dict[str, str]) -> None:
    script = "echo out; sleep 0.2; echo err >&2; sleep 0.2; printf '\\033[1mbold\\033[0m\\n'"
    done = call("run", "--id", "x", "--", "sh", "-c", script, env=env)

    assert done.stdout == "out\n\x1b[1mbold\x1b[0m\n"
    first, err, last = done.stderr.splitlines()
    assert (first, err) == ("tailrace: execution x", "err")
    assert re.fullmatch(r"tailrace: execution x completed in \d+\.\d s \(exit code 0\)", last)
    logs = [event["data"] for event in events_of("x", env) if event["type"] == "log"]
    assert [log["text"] for log in logs if isinstance(log, dict)] == ["out", "err", "\x1b[1mbold\x1b[0m"]


def test_options_of_the_program_are_its_own(env: dict[str, str]) -> None:
    done = call("run", "--", "echo", "--id", "--help", "-x", env=env)

    assert done.stdout == "--id --help -x\n"


def test_an_execution_that_has_ended_is_not_run_again(env: dict[str, str]) -> None:
    call("run", "--id", "x", "--", "true", env=env)
    done = call("run", "--id", "x", "--", "echo", "twice", env=env)

    assert (done.returncode, done.stdout) == (6, "")
    assert "has ended" in done.stderr


@pytest.mark.parametrize(("order", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_program_and_the_execution_is_cancelled(
    order: signal.Signals, code: int, env: dict[str, str], tmp_path: Path
) -> None:
    script = "sleep 300 & echo ready; wait"
    with family(tmp_path / "run", "run", "--id", "x", "--", "sh", "-c", script, env=env) as run:
        run.await_words("ready")
        run.signal(order)

        assert run.wait() == code
        run.await_nobody()
        assert "Traceback" not in run.said
    assert events_of("x", env)[-1]["type"] == "execution.cancelled"


def test_an_embedded_server_will_do(tmp_path: Path) -> None:
    url = f"embedded://{tmp_path}/data"
    with family(tmp_path / "run", "run", "--redis-url", url, "--id", "x", "--", "echo", "hello") as run:
        assert run.wait() == 0
        assert "hello" in run.said
        again = call("tail", "x", "--redis-url", url, "--types", "log")
        assert "hello" in again.stdout
        wait_until(lambda: not run.members())


@contextlib.contextmanager
def running(*arguments: str, env: dict[str, str], **popen: Any) -> Iterator[subprocess.Popen[bytes]]:
    """``tailrace run`` with pipes, or other streams, that the test reads as it likes."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
    with subprocess.Popen(
        [*TAILRACE, "run", *arguments], stdin=subprocess.DEVNULL, env={**os.environ, **env}, **streams
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def logged(execution_id: str, env: dict[str, str]) -> str:
    """The text of all lines in the log."""
    data = [event["data"] for event in events_of(execution_id, env) if event["type"] == "log"]
    return "".join(str(each["text"]) for each in data if isinstance(each, dict))


def test_attack_74_a_pipe_that_is_not_read_costs_no_lease_and_no_byte(env: dict[str, str]) -> None:
    size, lease_seconds = 2_000_000, 3
    script = f"head -c {size} /dev/zero | tr '\\0' x"
    with running("--id", "x", "--", "sh", "-c", script, env={**env, "TAILRACE_LEASE_SECONDS": "3"}) as run:
        assert run.stdout is not None
        assert run.stdout.read(1) == b"x"
        # What is measured: longer than the lease without anybody reading.
        time.sleep(2 * lease_seconds)
        assert len(run.stdout.read()) == size - 1
        assert run.wait(60) == 0
    assert logged("x", env) == "x" * size
    assert events_of("x", env)[-1]["type"] == "execution.completed"


def test_attack_74_a_pipe_that_closes_ends_the_program_as_sigpipe_does(env: dict[str, str]) -> None:
    with running("--id", "x", "--", "yes", "on and on", env=env) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"on and on\n"
        run.stdout.close()
        assert run.wait(60) == 128 + signal.SIGPIPE
    ending = events_of("x", env)[-1]
    assert ending["type"] == "execution.failed"
    assert isinstance(ending["data"], dict)
    assert ending["data"]["signal"] == "SIGPIPE"


def test_attack_74_what_the_log_no_longer_has_is_shown_all_the_same(env: dict[str, str]) -> None:
    done = call("run", "--", "seq", "1", "50000", env={**env, "TAILRACE_MAX_ENTRIES": "100"})
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 50_001))


def test_attack_73_bytes_are_shown_as_they_are(env: dict[str, str]) -> None:
    with running("--", "sh", "-c", r"head -c 100000 /dev/zero; printf '\377\r\n\r'", env=env) as run:
        output, _ = run.communicate(timeout=60)
    assert output == b"\0" * 100_000 + b"\xff\r\n\r"
    assert run.returncode == 0


SIZED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
print(os.isatty(1), os.isatty(2), *os.get_terminal_size(1), flush=True)
signal.sigwait([signal.SIGWINCH])
print(*os.get_terminal_size(1), flush=True)
sys.stdout.write("\\033[1m10%\\r20%\\033[0m\\n")
"""


def test_attack_74_on_a_terminal_the_program_has_one_too_of_the_same_size(env: dict[str, str]) -> None:
    screen, ours = os.openpty()
    termios.tcsetwinsize(ours, (31, 97))
    shown = b""

    def read_until(words: bytes) -> None:
        nonlocal shown
        while words not in shown:
            shown += os.read(screen, 1000)

    with running("--id", "x", "--", sys.executable, "-c", SIZED, env=env, stdout=ours) as run:
        read_until(b"True False 97 31\r\n")
        termios.tcsetwinsize(ours, (20, 40))
        run.send_signal(signal.SIGWINCH)
        # Byte for byte: of a line end the terminal in front of us makes two bytes, once.
        read_until(b"40 20\r\n\x1b[1m10%\r20%\x1b[0m\r\n")
        assert run.wait(60) == 0
    os.close(ours)
    os.close(screen)
    # The bar is one line of the log.
    assert logged("x", env) == "True False 97 3140 2020%\x1b[0m"


def test_quiet_leaves_only_what_the_program_says(env: dict[str, str]) -> None:
    done = call("run", "--quiet", "--", "sh", "-c", "echo out; echo err >&2; exit 3", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


@pytest.mark.parametrize(
    ("script", "how"),
    [("exit 7", r"failed after \d+\.\d s \(exit code 7\)"), ("kill $$", r"failed after .* \(SIGTERM, exit code 143\)")],
)
def test_the_last_line_tells_the_exit_code_and_the_time(script: str, how: str, env: dict[str, str]) -> None:
    done = call("run", "--id", "x", "--", "sh", "-c", script, env=env)
    assert re.fullmatch(f"tailrace: execution x {how}", done.stderr.splitlines()[-1])


def test_a_full_disk_ends_the_program_and_is_told(env: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full, running("--id", "x", "--", "yes", env=env, stdout=full) as run:
        _, said = run.communicate(timeout=60)
    assert run.returncode == 1
    assert b"its stdout could not be written here (No space left on device)" in said
    assert events_of("x", env)[-1]["type"] == "execution.failed"


def test_an_execution_that_is_cancelled_from_elsewhere_is_told_in_a_sentence(
    env: dict[str, str], tmp_path: Path
) -> None:
    with family(tmp_path / "run", "run", "--id", "x", "--", "sh", "-c", "echo ready; sleep 300", env=env) as run:
        run.await_words("ready")
        call("cancel", "x", "--redis-url", env["TAILRACE_REDIS_URL"], env=env)
        assert run.wait() == 1
        run.await_nobody()
        assert "execution x was cancelled" in run.said
        assert "Traceback" not in run.said


def test_names_and_output_that_the_locale_cannot_spell_are_shown(env: dict[str, str]) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with running("--id", "x", "--", "printf", "%s\\n", "h\u00e9llo", os.fsdecode(b"\xe9"), env={**env, **plain}) as run:
        output, said = run.communicate(timeout=60)
    assert (run.returncode, output) == (0, "h\u00e9llo\n".encode() + b"\xe9\n"), said
    assert logged("x", env) == "h\u00e9llo\ufffd"
