"""What a handshake leaves behind."""

from __future__ import annotations

from tailrace.gateway.asgi.stepping import Send


def forget_handshake(send: Send) -> None:
    """Let go of the headers of request and response, which uvicorn keeps as long as the socket: 5 KB each time."""
    connection = getattr(send, "__self__", None)
    for name in ("request", "response"):
        headers = getattr(getattr(connection, name, None), "headers", None)
        if headers is not None:
            headers.clear()
