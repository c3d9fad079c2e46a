"""Fixtures for the whole suite: servers, key prefixes, and the proof that no process is left behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast
from uuid import uuid4

import httpx
import pytest
from hypothesis import settings

from tests.leftovers import MARK_VARIABLE, end_leftovers
from tests.patience import patient
from tests.servers import RunningServer, ServerKind, ServerUnavailableError, spawn_server

if os.environ.get("TAILRACE_CI_REQUIRE") == "1":
    # The same examples each time, so that what fails there fails here; new ones are for `make test` and `make fuzz`.
    settings.load_profile("ci")
else:
    settings.register_profile("suite", deadline=None)
    settings.load_profile("suite")

# A client that asks for no timeout of its own would give up after 5 s.
for _phase in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _phase, patient(5.0))

# Where the workers of a session tell what they found.
TOLD_VARIABLE = "TAILRACE_TEST_LEFTOVERS"
ServerOfKind = Callable[[ServerKind], RunningServer]


# `nohup make test`, or a background job of a script: some signals are ignored, and what we start would inherit that.
# A handler that does nothing ignores them as well, and is not inherited.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


def pytest_sessionstart(session: pytest.Session) -> None:
    if _is_controller(session):
        # Whatever it starts are the workers; each of them looks after its own and tells us here.
        os.environ[TOLD_VARIABLE] = tempfile.mkstemp(prefix="tailrace-leftovers-")[1]
        return
    # Every process a test starts inherits this, however it detaches itself from us.
    os.environ[MARK_VARIABLE] = uuid4().hex


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _is_controller(session):
        told = Path(os.environ[TOLD_VARIABLE])
        leftovers = told.read_text().splitlines()
        told.unlink()
    else:
        leftovers = end_leftovers(os.environ[MARK_VARIABLE])
        if leftovers and TOLD_VARIABLE in os.environ:
            with Path(os.environ[TOLD_VARIABLE]).open("a") as told_file:
                told_file.writelines(f"{leftover}\n" for leftover in leftovers)
    if leftovers:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("")
            for leftover in leftovers:
                reporter.write_line(f"ERROR: a test left a process behind: {leftover}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_controller(session: pytest.Session) -> bool:
    """Whether the tests run in other processes (pytest-xdist), which this one only directs."""
    return bool(getattr(session.config.option, "numprocesses", None)) and not hasattr(session.config, "workerinput")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("timeout") is not None:
        return
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = marker.args[0] if marker else float(config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(patient(seconds)), append=False)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def prefix() -> str:
    """A key prefix of the test's own, so that tests share a server and never a key."""
    return f"t{uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def server_of_kind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerOfKind]:
    """The suite's shared server of a kind, started when first asked for."""
    running: dict[ServerKind, RunningServer] = {}
    with ExitStack() as stack:

        def shared(kind: ServerKind) -> RunningServer:
            if kind not in running:
                directory = tmp_path_factory.mktemp(kind)
                running[kind] = stack.enter_context(_spawn_or_skip(kind, directory))
            return running[kind]

        yield shared


@pytest.fixture(params=["valkey", "redis"])
def redis_server(request: pytest.FixtureRequest, server_of_kind: ServerOfKind) -> RunningServer:
    """The shared server of each kind in turn. Keep to your `prefix`; never flush, stop or reconfigure it."""
    return server_of_kind(cast("ServerKind", request.param))


@pytest.fixture
def each_server_url(redis_server: RunningServer) -> str:
    return redis_server.url


@pytest.fixture(scope="session")
def server_url(server_of_kind: ServerOfKind) -> str:
    """The shared Valkey. Keep to your `prefix`; never flush, stop or reconfigure it."""
    return server_of_kind("valkey").url


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A Valkey of the test's own, to flush, kill, pause or reconfigure. With AOF, so `restart` keeps data."""
    directory = tmp_path / "fresh-server"
    directory.mkdir()
    with spawn_server("valkey", directory=directory, appendonly=True) as server:
        yield server


def _spawn_or_skip(kind: ServerKind, directory: Path) -> RunningServer:
    try:
        return spawn_server(kind, directory=directory)
    except ServerUnavailableError as error:
        if os.environ.get("TAILRACE_CI_REQUIRE") == "1":
            pytest.fail(f"CI requires every server: {error}")
        pytest.skip(str(error))
