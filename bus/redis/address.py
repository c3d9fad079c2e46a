"""From a URL to connections; redis-py knows the way."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Connection, ConnectionPool, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ResponseError

from tailrace.bus.errors import InvalidInputError
from tailrace.bus.redis.connection import Dial
from tailrace.bus.redis.loading import progress
from tailrace.bus.redis.primary import Primary

Kind = Literal["server", "sentinel", "cluster"]
SCHEMES: Final = (
    "redis", "rediss", "unix", "embedded", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
)  # fmt: skip
_DEFAULT_PORT: Final = {"sentinel": 26379, "cluster": 6379}
CONNECT_SECONDS: Final = 5.0
_NUMBER: Final = re.compile(r"[0-9]{1,5}")
_PASSWORD_OPTION: Final = re.compile(r"([?&][^?&=]*password=)[^&#]*")
_TCP: Final[dict[str, Any]] = {"socket_connect_timeout": CONNECT_SECONDS, "socket_keepalive": True}


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, understood. ``addresses`` are the sentinels', or seeds of the cluster; empty for a single server."""

    url: str = field(repr=False)
    kind: Kind
    scheme: str
    credentials: str = field(default="", repr=False)
    addresses: tuple[tuple[str, int], ...] = ()
    service: str = ""
    database: int = 0
    # Passwords may stand here, too.
    query: str = field(default="", repr=False)


def parse_url(url: str) -> Target:
    """Understand a URL. Raises InvalidInputError that names what is wrong."""
    try:
        parts = urlsplit(url)
    except ValueError:
        # What urlsplit says repeats the credentials.
        raise InvalidInputError("redis_url", f"{redacted(url)!r} is not a valid URL") from None
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise InvalidInputError("redis_url", f"{redacted(url)!r} does not start with one of {known}")
    scheme, _, kind = parts.scheme.partition("+")
    if kind not in _DEFAULT_PORT:
        if parts.scheme in {"redis", "rediss"}:
            _check_server(url, parts)
        return Target(url, "server", parts.scheme)
    credentials, _, hosts = parts.netloc.rpartition("@")
    addresses = tuple(_address(url, host, _DEFAULT_PORT[kind]) for host in hosts.split(",") if host)
    if not addresses:
        raise InvalidInputError("redis_url", f"{redacted(url)!r} names no host")
    if kind == "cluster":
        return Target(url, "cluster", scheme, credentials, addresses, query=parts.query)
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not _NUMBER.fullmatch(database or "0"):
        raise InvalidInputError(
            "redis_url", f"{redacted(url)!r}: expected redis+sentinel://host:26379,…/<service>[/<database>]"
        )
    return Target(url, "sentinel", scheme, credentials, addresses, service, int(database or "0"))


def dial_of(target: Target | str) -> Dial:
    """Prepare connections in RESP3, without redis-py's own retries: reconnecting is SupervisedConnection's work.

    Raises InvalidInputError.
    """
    if isinstance(target, str):
        target = parse_url(target)
    if target.kind == "sentinel":
        return Primary(target.service, target.addresses, partial(_dial_at, target), timeout_seconds=CONNECT_SECONDS)
    options = {} if target.scheme == "unix" else _TCP
    try:
        pool = ConnectionPool.from_url(target.url, **_options(), **options)
        # Options that no connection knows are told here.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise InvalidInputError("redis_url", f"{redacted(target.url)!r}: {error}") from None
    return lambda: _connected(pool.make_connection())  # type: ignore[no-untyped-call]


def node_url(target: Target, address: tuple[str, int]) -> str:
    """The URL of one node of a cluster, with the cluster's credentials and options."""
    host, port = address
    shown = f"[{host}]" if ":" in host else host
    at = f"{target.credentials}@" if target.credentials else ""
    return f"{target.scheme}://{at}{shown}:{port}/0" + (f"?{target.query}" if target.query else "")


def redacted(url: str) -> str:
    """A URL that may be logged."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    rest = _PASSWORD_OPTION.sub(r"\1***", rest)
    credentials, at, hosts = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    return f"{scheme}{mark}{user}{':***' if colon and password else ''}{at}{hosts}"


def _check_server(url: str, parts: SplitResult) -> None:
    try:
        _ = parts.port
    except ValueError:
        raise InvalidInputError(
            "redis_url",
            f"{redacted(url)!r}: the port is not a number up to 65535; in a password, write / ? # @ as %2F %3F %23 %40",
        ) from None
    database = parts.path.strip("/")
    if database and not _NUMBER.fullmatch(database):
        raise InvalidInputError("redis_url", f"{redacted(url)!r}: {database!r} is not the number of a database")


def _options() -> dict[str, Any]:
    return {"protocol": 3, "retry": Retry(NoBackoff(), 0)}


async def _dial_at(target: Target, address: tuple[str, int]) -> AbstractConnection:
    user, _, password = target.credentials.partition(":")
    host, port = address
    options: dict[str, Any] = {**_options(), **_TCP, "host": host, "port": port, "db": target.database}
    if password:
        options["password"] = unquote(password)
    if user:
        options["username"] = unquote(user)
    kind = SSLConnection if target.scheme == "rediss" else Connection
    return await _connected(kind(**options))


async def _connected(connection: AbstractConnection) -> AbstractConnection:
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
        await _check_loaded(connection)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


async def _check_loaded(connection: AbstractConnection) -> None:
    """A server that loads its data accepts connections and refuses all else. Raises BusyLoadingError."""
    await connection.send_command("PING")
    try:
        await connection.read_response(disconnect_on_error=False)
    except BusyLoadingError as error:
        await connection.send_command("INFO", "persistence")
        said = (await connection.read_response()).decode(errors="replace")
        info = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
        raise BusyLoadingError(progress(info), status_code=error.status_code) from None
    except ResponseError:
        # It answers, and what it forbids is not for us to say here.
        pass


def _address(url: str, host: str, default_port: int) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host.strip("[]"), default_port
    if not name or not _NUMBER.fullmatch(port) or not 0 < int(port) < 65536:  # noqa: PLR2004 - ports are 16 bits wide
        raise InvalidInputError("redis_url", f"{redacted(url)!r}: {host!r} is not host:port")
    return name.strip("[]"), int(port)
