"""``tailrace ps`` and ``tailrace show``: the same over a gateway and over Redis itself."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.cli.conftest import Site
from tests.integration.cli.processes import call, family, shown_on_terminal, wait_until
from tests.servers import free_port


@pytest.fixture(params=["gateway", "redis"])
def way(request: pytest.FixtureRequest, site: Site) -> tuple[str, ...]:
    return ("--gateway", site.gateway) if request.param == "gateway" else ("--redis-url", site.redis_url)


def submit(site: Site, *argv: str, follow: bool = False) -> str:
    execution_id = f"x{uuid4().hex[:8]}"
    options = ("--follow",) if follow else ()
    given = json.dumps({"argv": argv})
    done = call("submit", "command", "--input", given, "--id", execution_id, "--gateway", site.gateway, *options)
    assert done.returncode in {0, 1}, done.stderr
    return execution_id


def listed(site: Site, *options: str) -> dict[str, dict[str, Any]]:
    done = call("ps", *options, "--json", env=site.env)
    assert (done.returncode, done.stderr) == (0, "")
    return {item["execution_id"]: item for item in map(json.loads, done.stdout.splitlines())}


def test_what_runs_is_listed_and_what_has_ended_only_when_it_is_asked_for(site: Site, way: tuple[str, ...]) -> None:
    ended = submit(site, "true", follow=True)
    running = submit(site, "sleep", "300")
    wait_until(lambda: listed(site, *way).get(running, {}).get("status") == "running", seconds=30)

    live = listed(site, *way)
    assert ended not in live
    assert (live[running]["pipeline"], live[running]["attempt"]) == ("command", 1)
    assert live[running]["owner"]
    assert listed(site, *way, "--all")[ended]["status"] == "completed"
    assert set(listed(site, *way, "--status", "completed")) >= {ended}
    assert running not in listed(site, *way, "--before", "1h")
    assert running in listed(site, *way, "--since", "1h")
    assert listed(site, *way, "--pipeline", "document") == {}
    assert len(listed(site, *way, "--all", "--limit", "1")) == 1

    table = call("ps", *way, env=site.env)
    assert table.returncode == 0
    assert table.stdout.split()[:3] == ["ID", "STATUS", "PIPELINE"]
    row = next(line.split() for line in table.stdout.splitlines() if line.startswith(running))
    assert row[1:4] == ["running", "command", "1"]
    assert row[5] == live[running]["owner"]


def test_nothing_to_list_says_where_else_to_look(site: Site, way: tuple[str, ...], prefix: str) -> None:
    if way[0] == "--gateway":
        done = call("ps", *way, "--status", "timed_out")
        assert done.stdout.splitlines() == [done.stdout.splitlines()[0]]
    else:
        done = call("ps", *way, env={"TAILRACE_PREFIX": prefix})
        assert "--all also shows those that have ended" in done.stderr
    assert done.returncode == 0


def test_a_watch_lists_again_and_goes_on_while_nobody_answers(site: Site, tmp_path: Path) -> None:
    with family(tmp_path / "watch", "ps", "--all", "--watch", "--gateway", site.gateway) as watch:
        watch.await_words("STATUS")
        late = submit(site, "true", follow=True)
        watch.await_words(late)
        watch.signal(signal.SIGINT)
        assert watch.wait() == 130
        assert "Traceback" not in watch.said


def test_how_one_stands_is_shown_with_its_newest_events(site: Site, way: tuple[str, ...]) -> None:
    execution_id = submit(site, "sh", "-c", "echo one; echo two; exit 3", follow=True)
    text = call("show", execution_id, *way, env=site.env)
    shown = json.loads(call("show", execution_id, *way, "--events", "2", "--json", env=site.env).stdout)
    none = json.loads(call("show", execution_id, *way, "--events", "0", "--json", env=site.env).stdout)

    assert text.returncode == 0
    assert "status      failed: " in text.stdout
    assert "two" in text.stdout
    assert text.stdout.splitlines()[-1].split()[1] == "execution.failed"
    assert shown["state"]["status"] == "failed"
    assert [event["type"] for event in shown["page"]["items"]][-1] == "execution.failed"
    assert (len(shown["page"]["items"]), none["page"]["items"], shown["requests"]) == (2, [], [])


def test_both_ways_show_the_very_same(site: Site) -> None:
    execution_id = submit(site, "echo", "hello", follow=True)
    by_gateway = call("show", execution_id, "--gateway", site.gateway, "--json")
    by_redis = call("show", execution_id, "--redis-url", site.redis_url, "--json", env=site.env)
    first, second = json.loads(by_gateway.stdout), json.loads(by_redis.stdout)
    first["page"].pop("links")
    # Where a gateway has the rest of it, which Redis alone does not know.
    first["state"].pop("links")
    assert first == second


@pytest.mark.parametrize("command", ["show"])
def test_an_unknown_execution_is_exit_code_5(site: Site, way: tuple[str, ...], command: str) -> None:
    done = call(command, "nobody", *way, env=site.env)
    assert (done.returncode, done.stdout) == (5, "")
    assert "no execution nobody" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_next_gateway_is_asked_where_one_is_gone(site: Site) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    execution_id = submit(site, "true", follow=True)
    assert call("show", execution_id, "--gateway", gone, "--gateway", site.gateway).returncode == 0
    alone = call("ps", "--gateway", gone)
    assert alone.returncode == 4
    assert gone in alone.stderr
    assert alone.stderr.count("\n") == 1


def test_the_two_ways_are_not_taken_at_once(site: Site) -> None:
    done = call("ps", "--gateway", site.gateway, "--redis-url", site.redis_url)
    assert done.returncode == 64
    assert "cannot be used together" in done.stderr


def test_on_a_narrow_terminal_without_colours_or_unicode_the_id_is_still_there_to_be_copied(site: Site) -> None:
    execution_id = submit(site, "false", follow=True)
    way = ("--redis-url", site.redis_url)
    coloured = {**site.env, "TERM": "xterm-256color", "NO_COLOR": ""}
    plain = {**coloured, "NO_COLOR": "1", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    colours = re.compile(rb"\x1b\[(?:[0-9]+;)*[34][0-9]")

    shown = shown_on_terminal("ps", "--all", *way, columns=20, env=plain)
    assert execution_id.encode() in shown
    assert shown.isascii()
    assert not colours.search(shown)
    assert colours.search(shown_on_terminal("ps", "--all", *way, columns=80, env=coloured))
