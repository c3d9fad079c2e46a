from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.integration.cli.processes import call, family, wait_until


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
    assert done.stderr == "tailrace: execution x\nerr\n"
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
