"""The bounds of one socket."""

from __future__ import annotations

from typing import Final

MAX_FRAME_BYTES: Final = 64 * 1024
MAX_SUBSCRIPTIONS: Final = 200
# In a row; a good frame starts the count anew.
MAX_MALFORMED: Final = 20
# Pages of the log that may be under way to one socket, so that a full one holds no more than these.
MAX_READING: Final = 4
# A client that has vanished is found out within the sum. Long, because a pong waits behind what a slow client reads.
PING_SECONDS: Final = 20.0
PONG_SECONDS: Final = 40.0
