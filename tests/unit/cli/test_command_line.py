from __future__ import annotations

import pytest

from tailrace.cli.main import run

COMMANDS = (
    *("demo", "up", "submit", "tail", "ps", "show", "cancel", "pause", "resume", "signal"),
    *("run", "gateway", "worker", "doctor", "dead-letters"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0

    text = capsys.readouterr().out
    assert "Example" in text
    assert f"tailrace {command}" in text.partition("Example")[2]


def test_the_help_lists_all_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out

    assert run([]) == 0
    assert capsys.readouterr().out == text
    assert all(f"\n  {command} " in text for command in COMMANDS)
    assert "64  an argument or setting is wrong" in text
    assert "..." not in text.partition("Commands:")[2], "a summary is too long for its line"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["tail"], "Missing argument"),
        (["gateway", "--nosuch"], "No such option: --nosuch"),
        (["gateway", "--port", "70000"], "'--port': Input should be less than or equal to 65535"),
        (["tail", "a b"], "ID: 'a b' is not an execution id"),
        (["tail", "x", "--after", "3x"], "--after: '3x' is not a cursor"),
        (["tail", "x", "--types", "A B"], "types: 'A B' is neither"),
        (["tail", "x", "--gateway", "nonsense"], "--gateway: 'nonsense' is not an http(s) URL"),
        (["submit", "document", "word"], "'word' is not key=value"),
        (["submit", "document", "a=1", "--input", "{}"], "the input is given more than once"),
        (["submit", "document", "--input-file", "/nonexistent/x"], "cannot read '/nonexistent/x'"),
        (["submit", "document", "--id", "a b"], "--id: 'a b' is not an execution id"),
        (["ps", "--status", "dead"], "'dead' is not one of 'queued'"),
        (["ps", "--status", "failed", "--all"], "--status and --all cannot be used together"),
        (["ps", "--since", "yesterday"], "--since: 'yesterday' is not a time; as in 90m"),
        (["ps", "--limit", "0"], "'--limit'"),
        (["ps", "--watch", "--json"], "--watch and --json cannot be used together"),
        (["show", "a b"], "ID: 'a b' is not an execution id"),
        (["show", "x", "--events", "-1"], "'--events'"),
        (["cancel", "a b"], "ID: 'a b' is not an execution id"),
        (["cancel", "x", "--grace", "-1"], "'--grace'"),
        (["cancel", "x", "--reason", "a\nb"], "reason: has line breaks"),
        (["pause", "x", "--wait", "-1"], "'--wait'"),
        (["resume", "a b"], "ID: 'a b' is not an execution id"),
        (["signal", "x"], "Missing argument"),
        (["signal", "x", "go", "yes"], "JSON: 'yes' is not JSON"),
        (["signal", "x", ""], "name: expected text"),
        (["dead-letters", "burn"], "'burn' is not one of"),
        (["dead-letters", "--gateway", "http://127.0.0.1:8080"], "dead letters are not served by gateways"),
        (["dead-letters", "list", "1-0"], "list: takes no ENTRY"),
        (["dead-letters", "show"], "show: takes one ENTRY"),
        (["dead-letters", "requeue"], "requeue: name each ENTRY, or give --all"),
        (["dead-letters", "drop", "1-0", "--all"], "drop: name each ENTRY, or give --all"),
        (["dead-letters", "drop", "--all"], "drop --all: name the queue"),
        (["worker", "--redis-url", "foo://x"], "redis_url: 'foo://x' does not start with one of"),
        (["worker", "--queue", "a b"], "queues"),
        (["gateway", "--host", "192.0.2.1"], "host (TAILRACE_HOST)"),
        (["run", "--id", "a b", "--", "true"], "--id: 'a b' is not an execution id"),
    ],
)
def test_wrong_arguments_are_one_line_that_names_them(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 64

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tailrace: ")
    assert complaint in captured.err
    assert captured.err.count("\n") == 1


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tailrace ")
