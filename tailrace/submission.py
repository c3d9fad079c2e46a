"""Give work to the workers, through a gateway or through Redis itself."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import httpx

from bus import open_bus
from bus.event import check_execution_id, new_execution_id
from tailrace.errors import GatewayError
from tailrace.exit_codes import ExitCode
from tailrace.watch import client_for, problem_of

_CODES = {
    httpx.codes.CONFLICT: ExitCode.CONFLICT,
    httpx.codes.BAD_REQUEST: ExitCode.USAGE,
    httpx.codes.UNPROCESSABLE_ENTITY: ExitCode.USAGE,
    httpx.codes.REQUEST_ENTITY_TOO_LARGE: ExitCode.USAGE,
}


async def submit_work(
    pipeline: str,
    given: dict[str, Any],
    *,
    gateways: Sequence[str],
    redis_url: str | None,
    execution_id: str | None = None,
    queue: str = "default",
) -> str:
    """Queue it and return its id. Raises BusError, GatewayError."""
    # Chosen here, so that asking the next gateway after a lost answer queues nothing twice.
    chosen = check_execution_id(execution_id or new_execution_id(time.time_ns() // 1_000_000, os.urandom), field="--id")
    if redis_url is not None:
        async with await open_bus(redis_url) as bus:
            return await bus.submit(pipeline, given, execution_id=chosen, queue=queue)
    async with client_for(gateways) as client:
        body = {"pipeline": pipeline, "input": given, "execution_id": chosen, "queue": queue}
        return await _post(client, gateways, body)


async def _post(client: httpx.AsyncClient, gateways: Sequence[str], body: dict[str, Any]) -> str:
    reason = ""
    for gateway in gateways:
        try:
            response = await client.post(f"{gateway}/v1/executions", json=body)
        except httpx.TransportError as error:
            reason = f"{gateway}: {str(error) or type(error).__name__}"
            continue
        if response.is_success:
            return str(body["execution_id"])
        reason = f"{gateway}: {problem_of(response)}"
        if not response.is_server_error:
            raise GatewayError(reason, _CODES.get(httpx.codes(response.status_code), ExitCode.GATEWAY))
    raise GatewayError(f"no gateway took it ({reason}); check that one runs there, or name another with --gateway")
