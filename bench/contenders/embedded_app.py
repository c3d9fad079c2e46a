"""An application with the gateway in it: our own routes below /live, and a route with a wire of the application's own.

The wire says in Python what our envelope says, so that both write the same bytes but for the id.
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import Response

from tailrace import Frame, Gateway, ShownEntry, SseWire, frame


class EnvelopeWire(SseWire):
    def show(self, entry: ShownEntry) -> Frame:
        data = {"type": entry.type, "execution_id": entry.execution_id, "ts": entry.ts, "data": entry.data}
        return frame(entry.type, data)


gateway = Gateway(os.environ["BENCH_REDIS_URL"])


def made() -> FastAPI:
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router, prefix="/live")

    @app.get("/own/{execution_id}")
    async def own(execution_id: str, request: Request) -> Response:
        return gateway.stream(request, execution_id, wire=EnvelopeWire())

    @app.get("/ready")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    return app


async def through(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


app = made()
layered = made()
layered.add_middleware(BaseHTTPMiddleware, dispatch=through)
