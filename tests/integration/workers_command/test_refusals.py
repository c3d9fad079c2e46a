"""Commands that cannot be run: one sentence each, and a code."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tailrace.workers.command.errors import (
    CommandCwdError,
    CommandError,
    CommandInvalidError,
    CommandNotExecutableError,
    CommandNotFoundError,
    CommandNotStartedError,
)
from tailrace.workers.command.process import start
from tests.integration.workers_command.programs import open_descriptors

pytestmark = pytest.mark.anyio


async def refusal(
    kind: type[CommandError], argv: Sequence[str], *, cwd: str | None = None, env: Mapping[str, str] | None = None
) -> str:
    before = open_descriptors()
    with pytest.raises(kind) as caught:
        await start(argv, cwd=cwd, env=env)
    assert type(caught.value) is kind
    assert open_descriptors() == before
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def script(path: Path, content: str, mode: int = 0o755) -> str:
    path.write_text(content)
    path.chmod(mode)
    return str(path)


async def test_a_program_that_is_not_on_the_path_is_not_found() -> None:
    sentence = await refusal(CommandNotFoundError, ["no-such-program-here"])
    assert "'no-such-program-here' was not found on the worker's PATH" in sentence


async def test_a_path_to_no_program_is_not_found(tmp_path: Path) -> None:
    assert "at that path" in await refusal(CommandNotFoundError, [f"{tmp_path}/none"])
    file = script(tmp_path / "file", "#!/bin/sh\n")
    await refusal(CommandNotFoundError, [f"{file}/below"])


async def test_a_file_without_the_permission_is_not_executable(tmp_path: Path) -> None:
    sentence = await refusal(CommandNotExecutableError, [script(tmp_path / "plain", "#!/bin/sh\n", 0o644)])
    assert "chmod +x" in sentence


async def test_a_relative_program_is_looked_for_in_the_directory_to_run_in(tmp_path: Path) -> None:
    script(tmp_path / "plain", "#!/bin/sh\n", 0o644)
    await refusal(CommandNotExecutableError, ["./plain"], cwd=str(tmp_path))


async def test_a_directory_is_not_executable(tmp_path: Path) -> None:
    assert "it is a directory" in await refusal(CommandNotExecutableError, [str(tmp_path)])


async def test_a_text_file_is_not_executable(tmp_path: Path) -> None:
    assert "#! line" in await refusal(CommandNotExecutableError, [script(tmp_path / "text", "hello\n")])


async def test_a_script_whose_interpreter_is_missing_is_told_from_a_missing_program(tmp_path: Path) -> None:
    sentence = await refusal(CommandNotExecutableError, [script(tmp_path / "script", "#!/no/such/interpreter\n")])
    assert "the interpreter named in its first line is missing" in sentence


@pytest.mark.parametrize("argv", [[], [""], "ls -l"])
async def test_argv_without_a_program_is_invalid(argv: Sequence[str]) -> None:
    assert "argv" in await refusal(CommandInvalidError, argv)


async def test_arguments_that_no_program_can_be_given_are_named() -> None:
    assert "argv[2] holds a NUL" in await refusal(CommandInvalidError, ["echo", "a", "b\x00c"])
    assert "argv[1] is not encodable" in await refusal(CommandInvalidError, ["echo", "\ud83d"])
    assert "pass a file instead" in await refusal(CommandInvalidError, ["echo", *["x" * 100_000] * 100])


@pytest.mark.parametrize("env", [{"A=B": "c"}, {"": "c"}, {"A": "\x00"}, {"A\x00": "b"}])
async def test_variables_that_no_program_can_be_given_are_named(env: dict[str, str]) -> None:
    assert "env[" in await refusal(CommandInvalidError, ["true"], env=env)


async def test_a_directory_that_cannot_be_run_in_is_named(tmp_path: Path) -> None:
    file = script(tmp_path / "file", "")
    assert "does not exist" in await refusal(CommandCwdError, ["true"], cwd=f"{tmp_path}/none")
    assert "is not a directory" in await refusal(CommandCwdError, ["true"], cwd=file)
    with pytest.raises(CommandInvalidError, match="cwd holds a NUL"):
        await start(["true"], cwd="a\x00b")


async def test_a_limit_of_the_system_is_told() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(CommandNotStartedError, match="Too many open files"):
            await start(["true"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_program_that_cannot_be_watched_is_not_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_thread)
    with pytest.raises(CommandNotStartedError, match="can't start new thread"):
        await start(["sleep", "60"])


def test_every_error_has_a_code_of_its_own() -> None:
    kinds: list[type[CommandError]] = [CommandError, *CommandError.__subclasses__()]
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
