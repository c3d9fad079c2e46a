"""Why a gateway refuses a request or cannot start.

GatewayError
├── ProblemError            a request cannot be answered; carries the problem (http/problems.py)
│   ├── UnauthenticatedError    401: no valid credential
│   ├── ForbiddenError          403: a valid credential that does not cover this
│   └── GatewayFullError        503: too many live connections here
├── SentAwayError           who waits is to come back to another gateway (streams/waiting.py)
├── GatewayNotRunningError  a route was asked before its gateway was started
├── OpError                 a WebSocket message is not a valid op; carries the answer (streams/socket_ops.py)
├── FloodError              a client sends more WebSocket frames than it may (asgi/frame_budget.py)
├── HeadTooLargeError       the head of a request has more bytes than it may (asgi/arrivals.py)
├── PipelineTooLongError    a client sends more requests than it waits for answers (asgi/arrivals.py)
├── ListenError             the address cannot be listened on (asgi/listener.py)
├── UnusableKeysError       a document is not a valid key set (auth/jwks.py)
└── UnusableApiKeysError    a document is not a valid list of API keys (auth/api_keys.py)
"""

from __future__ import annotations

from tailrace.bus.errors import TailraceError


class GatewayError(TailraceError):
    pass


class GatewayNotRunningError(GatewayError):
    """The application that contains the gateway has not started it."""

    def __init__(self) -> None:
        super().__init__(
            "the gateway is not running: give the application lifespan=gateway.lifespan, or enter "
            "'async with gateway.running():' in its own lifespan (a mounted application's lifespan is not run)"
        )
