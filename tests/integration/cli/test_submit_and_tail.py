from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.conftest import Site, start_gateway, url_of
from tests.integration.cli.processes import TAILRACE, call, family, wait_until
from tests.patience import patient


def ndjson(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def submitted(site: Site, *argv: str) -> str:
    given = json.dumps({"argv": argv})
    done = call("submit", "command", "--input", given, "--gateway", site.gateway, "--follow", "--json")
    return str(ndjson(done.stdout)[0]["execution_id"])


@pytest.fixture(scope="module")
def ended(site: Site) -> str:
    return submitted(site, "sh", "-c", "echo one; echo two >&2; echo three")


def test_a_document_is_submitted_and_followed_to_its_end(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text("# Title\n\nThe log is the only truth. Everything else is a cache of it.\n")

    done = call("submit", "document", f"path={file}", "--gateway", site.gateway, "--follow", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    events = ndjson(done.stdout)
    assert [events[0]["type"], events[-1]["type"]] == ["execution.queued", "execution.completed"]
    assert events[-1]["data"]["result"]["title"] == "Title"
    assert [int(event["id"].partition("-")[2]) for event in events] == list(range(1, len(events) + 1))


def test_a_failed_execution_is_exit_code_1_and_a_sentence(site: Site) -> None:
    done = call("submit", "document", "path=/nonexistent.md", "--gateway", site.gateway, "--follow")

    assert done.returncode == 1
    assert "The file '/nonexistent.md' does not exist" in done.stdout.splitlines()[-1]


def test_without_follow_only_the_id_is_printed(site: Site) -> None:
    plain = call("submit", "command", 'argv=["true"]', "--gateway", site.gateway)
    as_json = call("submit", "command", 'argv=["true"]', "--gateway", site.gateway, "--json")

    assert (plain.returncode, as_json.returncode) == (0, 0)
    assert call("tail", plain.stdout.strip(), "--gateway", site.gateway).returncode == 0
    assert call("tail", json.loads(as_json.stdout)["execution_id"], "--gateway", site.gateway).returncode == 0


def test_redis_itself_can_be_given_work(site: Site) -> None:
    done = call("submit", "command", 'argv=["true"]', "--redis-url", site.redis_url, "--follow", env=site.env)

    assert done.returncode == 0
    assert "execution.completed" in done.stdout


def test_input_may_come_from_stdin(site: Site) -> None:
    given = '{"argv": ["echo", "from stdin"]}'
    done = call("submit", "command", "--input-file", "-", "--gateway", site.gateway, "--follow", stdin=given)

    assert "from stdin" in done.stdout


def test_the_same_id_with_other_work_is_a_conflict(site: Site) -> None:
    execution_id = f"same-{os.getpid()}"
    first = call("submit", "command", 'argv=["true"]', "--id", execution_id, "--gateway", site.gateway)
    again = call("submit", "command", 'argv=["true"]', "--id", execution_id, "--gateway", site.gateway)
    other = call("submit", "command", 'argv=["false"]', "--id", execution_id, "--gateway", site.gateway)

    assert (first.returncode, again.returncode, other.returncode) == (0, 0, 6)
    assert other.stderr.count("\n") == 1


def test_both_ways_to_the_log_show_the_very_same(site: Site, ended: str) -> None:
    by_gateway = call("tail", ended, "--gateway", site.gateway, "--json")
    by_redis = call("tail", ended, "--redis-url", site.redis_url, "--json", env=site.env)

    assert by_gateway.returncode == by_redis.returncode == 0
    assert ndjson(by_gateway.stdout) == ndjson(by_redis.stdout)
    # Between the two streams of the program there is no order.
    logs = {event["data"]["text"] for event in ndjson(by_redis.stdout) if event["type"] == "log"}
    assert logs == {"one", "two", "three"}


@pytest.mark.parametrize("way", ["gateway", "redis"])
def test_a_cursor_and_a_filter_choose_what_is_shown(site: Site, ended: str, way: str) -> None:
    source = ("--gateway", site.gateway) if way == "gateway" else ("--redis-url", site.redis_url)
    everything = ndjson(call("tail", ended, *source, "--json", env=site.env).stdout)
    half = everything[len(everything) // 2]["id"]

    after = call("tail", ended, *source, "--json", "--after", half, env=site.env)
    logs = call("tail", ended, *source, "--json", "--types", "log", env=site.env)
    at_the_end = call("tail", ended, *source, "--after", everything[-1]["id"], env=site.env)

    assert ndjson(after.stdout) == everything[len(everything) // 2 + 1 :]
    assert [event["type"] for event in ndjson(logs.stdout)] == ["log", "log", "log", "execution.completed"]
    assert (at_the_end.returncode, at_the_end.stdout) == (0, "")


@pytest.mark.parametrize("way", ["gateway", "redis"])
def test_an_unknown_execution_is_exit_code_5(site: Site, way: str) -> None:
    source = ("--gateway", site.gateway) if way == "gateway" else ("--redis-url", site.redis_url)

    done = call("tail", "nosuch", *source, env=site.env)

    assert done.returncode == 5
    assert "no execution nosuch" in done.stderr
    assert done.stderr.count("\n") == 1


def test_hostile_lines_do_not_steer_the_terminal(site: Site) -> None:
    execution_id = submitted(site, "printf", r"\033[2J\033]0;owned\007\n")

    done = call("tail", execution_id, "--gateway", site.gateway)

    assert "\\x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_reader_that_goes_away_is_no_traceback(site: Site, ended: str) -> None:
    tail = subprocess.Popen(
        [*TAILRACE, "tail", ended, "--gateway", site.gateway],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tail.stdout is not None
    tail.stdout.close()
    assert tail.stderr is not None
    with tail.stderr:
        said = tail.stderr.read()

    assert tail.wait(patient(30)) == 1
    assert said == ""


def test_a_tail_survives_the_death_of_its_gateway(site: Site, tmp_path: Path) -> None:
    """Guarantee G7, as a user of the command line has it."""
    script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; sleep 0.05; done"
    with ExitStack() as stack:
        victim = start_gateway(stack, tmp_path / "victim", site.redis_url, site.env)
        gateways = ("--gateway", url_of(victim), "--gateway", site.gateway)
        given = json.dumps({"argv": ["sh", "-c", script]})
        execution_id = call("submit", "command", "--input", given, *gateways).stdout.strip()
        tail = stack.enter_context(
            family(tmp_path / "tail", "tail", execution_id, *gateways, "--json", "--types", "log")
        )
        tail.await_words("line 15")
        victim.signal(signal.SIGKILL)
        assert tail.wait() == 0
        said = tail.said.splitlines()

    notes = [line for line in said if not line.startswith("{")]
    lines = [json.loads(line)["data"].get("text") for line in said if line.startswith("{")]
    assert lines == [*(f"line {number}" for number in range(1, 61)), None]
    assert f"tailrace: resumed on {site.gateway}" in notes


def test_ctrl_c_ends_a_tail_without_a_traceback(site: Site, tmp_path: Path) -> None:
    given = json.dumps({"argv": ["sleep", "3"]})
    execution_id = call("submit", "command", "--input", given, "--gateway", site.gateway).stdout.strip()
    with family(tmp_path / "tail", "tail", execution_id, "--gateway", site.gateway) as tail:
        tail.await_words("step.started")
        tail.signal(signal.SIGINT)

        assert tail.wait() == 130
        assert "Traceback" not in tail.said
    wait_until(lambda: call("tail", execution_id, "--gateway", site.gateway).returncode == 0)
