"""Everything that reaches into redis-py: taking over the transport of a connection that it has opened.

pyproject.toml bounds its version; what is checked here tells which library is wrong where that bound was ignored.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import cast

from redis.asyncio.connection import AbstractConnection

from tailrace.bus.errors import LibraryIncompatibleError


def take_transport(connection: AbstractConnection) -> asyncio.Transport:
    """Its transport, to be given another protocol. The connection must be kept: collecting it closes the transport.

    Raises LibraryIncompatibleError.
    """
    transport = getattr(getattr(connection, "_writer", None), "transport", None)
    if not callable(getattr(transport, "set_protocol", None)) or not callable(getattr(connection, "_close", None)):
        raise LibraryIncompatibleError("redis", version("redis"), "redis>=8.0,<9")
    return cast("asyncio.Transport", transport)


def has_ended(connection: AbstractConnection) -> bool:
    """Whether the server has closed it. redis-py has then read the end, and the protocol given later never sees it."""
    reader = getattr(connection, "_reader", None)
    return take_transport(connection).is_closing() or bool(reader is not None and reader.at_eof())


def forget_transport(connection: AbstractConnection) -> None:
    """Make redis-py close its stream now, so that it does not warn of a transport that is ours when collected."""
    connection._close()  # type: ignore[no-untyped-call]  # noqa: SLF001 - no public way closes without a loop
