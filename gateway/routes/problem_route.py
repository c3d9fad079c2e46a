"""Errors of our own routes as problem details, whichever application contains them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tailrace.gateway.streams.deferred import PROBLEMS, answer

# As proxies write it into their logs; it is never sent.
CLIENT_GONE: Final = 499


class ProblemRoute(APIRoute):
    """Answers by itself: an application that contains our routes keeps its own exception handlers for its own."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_answer(request: Request) -> Response:
            try:
                return await handle(request)
            except PROBLEMS as error:
                return answer(request, error)
            except ClientDisconnect:
                # Nobody reads it; the application around us is not to take it for a defect.
                return Response(status_code=CLIENT_GONE)

        return handle_or_answer
