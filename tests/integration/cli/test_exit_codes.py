"""Exit code 70 means a defect of Tailrace: nothing that a user types, or that surrounds him, ends in it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailrace.cli.exit_codes import MEANINGS, ExitCode
from tailrace.cli.main import run
from tests.integration.cli.processes import TAILRACE, call
from tests.servers import free_port

OURS = {int(code) for code in MEANINGS} - {ExitCode.INTERNAL}


class _Stranger(BaseHTTPRequestHandler):
    """Answers every question alike."""

    status: ClassVar[int]
    body: ClassVar[bytes]

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status, "Whatever")
        if self.status not in {204, 304}:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.status not in {204, 304}:
            self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815 - named so by the standard library

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def stranger(status: int, body: bytes) -> Iterator[str]:
    answers = type("Answers", (_Stranger,), {"status": status, "body": body})
    with ThreadingHTTPServer(("127.0.0.1", 0), answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


ASKING = [
    ["submit", "document", "path=/a"],
    ["ps"],
    ["show", "x"],
    ["cancel", "x"],
    ["pause", "x", "--wait", "0.1"],
    ["signal", "x", "go"],
]
BODIES = [
    *(b"", b"{}", b"[]", b"null", b"7", b'"x"', b"NaN", b"\xff", b"<html>", b'{"items":[]}', b'{"execution_id":7}'),
    *(b'{"items":[{}],"next":null}', b"[" * 100_000, b'{"detail":{"x":1}}'),
]
STATUSES = [203, 204, 301, 400, 401, 404, 409, 413, 418, 419, 422, 429, 451, 499, 500, 503, *range(520, 527), 599]


@pytest.mark.parametrize("arguments", ASKING, ids=lambda words: words[0])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:20]))
def test_attack_77_a_gateway_that_answers_anything_is_told_not_our_defect(
    arguments: list[str], body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with stranger(200, body) as url:
        assert run([*arguments, "--gateway", url]) == ExitCode.GATEWAY
    said = capsys.readouterr().err
    assert f"tailrace: {url} answered, but not like a gateway of this version; is it a Tailrace gateway?" in said


@pytest.mark.parametrize("status", STATUSES)
def test_attack_77_a_status_that_http_does_not_know_is_the_gateways(
    status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with stranger(status, b'{"detail": "it is so"}') as url:
        assert run(["ps", "--gateway", url]) in OURS - {ExitCode.OK}
        if status not in {408, 425, 429, 500, 502, 503, 504}:
            assert run(["tail", "x", "--gateway", url]) in OURS
    assert url in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["submit", "p", "pace_ms=1e999", "--input", "{}"], ExitCode.USAGE, "more than once"),
        (["submit", "p", "--input", '{"pace_ms": 1e999}'], ExitCode.USAGE, "1e999 is not a JSON number"),
        (["submit", "p", "--input", '{"pace_ms": NaN}'], ExitCode.USAGE, "NaN is not a JSON number"),
        (["submit", "p", "path=/srv/caf\udce9.md"], ExitCode.USAGE, "is not text in UTF-8"),
        (["submit", "p", "--input-file", "/nowhere/caf\udce9.json"], ExitCode.USAGE, "cannot read"),
        (["ps", "--gateway", "http://xn--/"], ExitCode.USAGE, "'http://xn--/' is not a valid URL"),
        (["ps", "--gateway", ""], ExitCode.USAGE, "'' is not an http(s) URL"),
    ],
)
def test_attack_77_what_a_user_may_mistype_is_his_mistake(
    arguments: list[str], code: ExitCode, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == code
    assert complaint in capsys.readouterr().err


def test_attack_77_an_empty_gateway_variable_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILRACE_GATEWAY", " ,")
    with stranger(200, b'{"items":[],"next":null,"links":{"next":null}}') as url:
        monkeypatch.setattr("tailrace.cli.commands.options.DEFAULT_GATEWAY", url)
        assert run(["ps"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("ID")


WORDS = st.one_of(
    st.sampled_from(
        [
            *("--json", "--follow", "--all", "--gateway", "--redis-url", "--id", "--queue", "--input", "--input-file"),
            *("--after", "--types", "--since", "--before", "--limit", "--wait", "--grace", "--reason", "--tenant"),
            *("x", "-", "--", "", "a=b", "n=1e999", "n=-1e-999", "n=NaN", "=", "a=[", "9" * 400, "1e400", "nan", "inf"),
            *(
                "{}",
                "[]",
                '{"a":1e999}',
                "[" * 3000,
                "/",
                "/dev/null",
                "/nowhere",
                ".",
                "\udce9",
                "a=\ud800",
                "\x1b[2J",
            ),
            *(
                "http://",
                "http://[",
                "http://xn--/",
                "http://u:p@[::1",
                "redis://",
                "redis://:p@[::1",
                "unix:///nowhere",
            ),
        ]
    ),
    st.text(max_size=12),
)
COMMANDS = ["submit", "ps", "show", "cancel", "pause", "resume", "signal", "dead-letters", "doctor"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from(COMMANDS), words=st.lists(WORDS, max_size=5))
def test_attack_77_no_command_line_is_our_defect(
    command: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TAILRACE_GATEWAY", "http://127.0.0.1:1")
        patch.setenv("TAILRACE_REDIS_URL", "redis://127.0.0.1:1")
        assert run([command, *words]) in OURS
    assert "Traceback" not in capsys.readouterr().err


SERVING_WORDS = [
    *("--host", "--port", "--tail", "--pipelines", "--concurrency", "--metrics-port", "--document-root"),
    *("--allow-command", "--quiet", "0", "-1", "65536", "os:path", "nowhere:x", ":", "::1", "--", "", "x"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.sampled_from(["gateway", "worker", "run"]), words=st.lists(st.sampled_from(SERVING_WORDS), max_size=4)
)
def test_attack_77_no_command_line_of_what_serves_is_our_defect(
    command: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a Redis, so that a good one ends as well."""
    with monkeypatch.context() as patch:
        patch.setenv("TAILRACE_REDIS_URL", "redis://127.0.0.1:1")
        assert run([command, *words]) in OURS
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("redirected", "code", "complaint"),
    [
        ("> /dev/full", 1, "tailrace: standard output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
        (">&- <&-", 0, ""),
    ],
)
def test_attack_77_output_that_is_closed_or_full_is_no_defect(redirected: str, code: int, complaint: str) -> None:
    with stranger(200, b'{"items":[],"next":null,"links":{"next":null}}') as url:
        done = subprocess.run(
            ["sh", "-c", f'"$@" {redirected}', "sh", *TAILRACE, "ps", "--all", "--gateway", url],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (code, complaint)


def test_attack_78_a_gateways_password_is_sent_to_it_and_shown_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    for url in (
        f"http://me:S3cret@127.0.0.1:{port}",
        "http://me:S3cret@[::1",
        "ftp://me:S3cret@h",
        "http://me:S3cret@h?x",
    ):
        assert run(["ps", "--gateway", url]) != 0
    with stranger(401, b"{}") as url:
        assert run(["ps", "--gateway", url.replace("//", "//me:S3cret@")]) == ExitCode.GATEWAY
    shown = "".join(capsys.readouterr())
    assert "S3cret" not in shown
    assert f"http://127.0.0.1:{port}" in shown


def test_a_package_of_the_users_that_hides_one_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text("")
    done = subprocess.run(
        [TAILRACE[0], "-m", "tailrace", "ps", "--gateway", "http://127.0.0.1:1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == ExitCode.USAGE
    assert f"{tmp_path}/httpx.py is imported in place of the package 'httpx' that Tailrace needs" in done.stderr


@pytest.mark.parametrize("command", [("gateway", "--port", "0"), ("worker",), ("run", "--", "true"), ("ps",)])
def test_a_wrong_password_of_redis_is_told_as_that(command: tuple[str, ...], server_url: str) -> None:
    url = server_url.replace("unix://", "unix://me:S3cret@")
    done = call(command[0], "--redis-url", url, *command[1:])

    assert done.returncode == ExitCode.BUS
    assert "WRONGPASS" in done.stderr
    assert "check the user and password in --redis-url" in done.stderr
    assert "Redis runs" not in done.stderr
    assert "S3cret" not in done.stderr


def test_a_gateway_without_redis_says_what_to_do_as_other_commands_do() -> None:
    done = call("gateway", "--port", "0", "--redis-url", f"redis://127.0.0.1:{free_port()}")

    assert done.returncode == ExitCode.BUS
    assert "check that Redis is running there, or name another with --redis-url" in done.stderr


@pytest.mark.parametrize("command", ["gateway", "worker"])
def test_attack_50_a_misspelt_variable_is_named_with_the_one_that_may_be_meant(command: str) -> None:
    env = {"TAILRACE_REDIS_URL": f"redis://127.0.0.1:{free_port()}", "TAILRACE_LEASE_SECOND": "9", "TAILRACE_PORT": "0"}
    done = call(command, env=env)

    named = [line for line in done.stderr.splitlines() if "is not a setting" in line]
    assert len(named) == 1
    assert "TAILRACE_LEASE_SECOND is not a setting of Tailrace" in named[0]
    assert "did you mean TAILRACE_LEASE_SECONDS?" in named[0]


@pytest.mark.parametrize("name", ["TAILRACE_API_KEYS_FILE", "TAILRACE_JWKS_FILE"])
def test_attack_50_a_key_file_that_is_not_there_ends_the_start(name: str, tmp_path: Path) -> None:
    done = call("gateway", env={name: str(tmp_path / "keys.json"), "TAILRACE_PORT": "0"})

    assert done.returncode == ExitCode.USAGE
    assert f"({name}): {tmp_path}/keys.json cannot be read: No such file or directory" in done.stderr
    assert done.stderr.count("\n") == 1
