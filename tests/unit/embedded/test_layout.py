from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tailrace.bus.embedded import EmbeddedServerError, layout
from tailrace.bus.embedded.layout import MAX_SOCKET_PATH_BYTES, Layout, socket_url

LONG = Path("/srv") / ("x" * 200)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The first place where a short socket is sought. Not tmp_path, which is long itself."""
    with tempfile.TemporaryDirectory(prefix="tr-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def test_the_socket_lies_in_the_directory_where_it_fits() -> None:
    assert Layout(Path("/srv/bus")).choose_socket() == Path("/srv/bus/server.sock")


def test_a_long_directory_gets_the_same_short_and_private_socket_each_time(runtime: Path) -> None:
    socket = Layout(LONG).choose_socket()
    assert socket.is_relative_to(runtime)
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert Layout(LONG).choose_socket() == socket
    assert Layout(LONG / "other").choose_socket() != socket


def test_the_length_is_counted_in_bytes(runtime: Path) -> None:
    directory = Path("/srv") / ("é" * 60)
    assert len(str(directory / "server.sock")) < MAX_SOCKET_PATH_BYTES
    assert Layout(directory).choose_socket().is_relative_to(runtime)


def test_a_folder_that_others_may_enter_is_passed_over(runtime: Path) -> None:
    folder = Layout(LONG).choose_socket().parent
    folder.chmod(0o755)
    assert not Layout(LONG).choose_socket().is_relative_to(runtime)


def test_a_link_in_place_of_the_folder_is_passed_over(runtime: Path) -> None:
    folder = Layout(LONG).choose_socket().parent
    folder.rename(runtime / "elsewhere")
    folder.symlink_to(runtime / "elsewhere")
    assert not Layout(LONG).choose_socket().is_relative_to(runtime)


def test_no_place_for_the_socket_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_SOCKET_PATH_BYTES", 10)
    with pytest.raises(EmbeddedServerError, match=r"no place for the socket of /srv/x+.*use a shorter path"):
        Layout(LONG).choose_socket()


def test_the_url_is_read_back_by_redis_py_as_the_path_it_came_from() -> None:
    path = "/srv/a b'c%41?#é.sock"
    with Redis.from_url(socket_url(path)) as client:
        assert client.connection_pool.connection_kwargs["path"] == path


def test_the_server_listens_on_nothing_but_its_socket_and_never_evicts() -> None:
    command = Layout(Path("/srv/bus")).command(Path("valkey"), Path("/run/s"), persistent=True)
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options == {
        "--port": "0",
        "--unixsocket": "/run/s",
        "--unixsocketperm": "700",
        "--protected-mode": "yes",
        "--daemonize": "no",
        "--dir": "/srv/bus",
        "--save": "",
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--maxmemory-policy": "noeviction",
    }
