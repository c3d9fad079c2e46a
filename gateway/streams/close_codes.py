"""Why a socket was closed (RFC 6455, section 7.4), and whether to come back. Explained in docs/websocket.md."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    DONE = 1000  # the one execution has ended: nothing follows
    INTERNAL_ERROR = 1011  # come back, resuming
    DRAINING = 1012  # come back, resuming, after the time told by `reconnect`
    TRY_LATER = 1013  # come back after a while
    BAD_REQUEST = 4400  # the URL cannot be used as it is: do not come back with it
    TOKEN_ENDED = 4401  # expired or revoked: come back with another one, resuming
    EXECUTION_UNKNOWN = 4404  # do not come back
    TOO_MANY_MALFORMED = 4429  # mend the client first


def close_code_of(error_code: str) -> CloseCode:
    """How a socket for one execution is closed when it cannot be watched."""
    match error_code:
        case "execution_unknown":
            return CloseCode.EXECUTION_UNKNOWN
        case "bus_unavailable":
            return CloseCode.TRY_LATER
        case "shutting_down":
            return CloseCode.DRAINING
        case _:
            return CloseCode.BAD_REQUEST
