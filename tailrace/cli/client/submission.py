"""Give work to the workers, through a gateway or through Redis itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from tailrace.bus import open_bus
from tailrace.bus.model.event import check_execution_id
from tailrace.cli.client.asking import ask
from tailrace.cli.client.watch import client_for
from tailrace.gateway.http.schemas import Submitted


async def submit_work(
    pipeline: str,
    given: dict[str, Any],
    *,
    gateways: Sequence[str],
    redis_url: str | None,
    execution_id: str | None = None,
    queue: str = "default",
) -> str:
    """Queue it and return its id. Raises BusError, GatewayRequestError."""
    if execution_id is not None:
        check_execution_id(execution_id, field="--id")
    if redis_url is not None:
        async with await open_bus(redis_url) as bus:
            return await bus.submit(pipeline, given, execution_id=execution_id, queue=queue)
    body: dict[str, Any] = {"pipeline": pipeline, "input": given, "queue": queue}
    # So that asking the next gateway after a lost answer queues nothing twice.
    headers: dict[str, str] = {}
    if execution_id is not None:
        body["execution_id"] = execution_id
    else:
        headers["Idempotency-Key"] = uuid4().hex
    async with client_for(gateways) as client:
        submitted = await ask(client, gateways, "/v1/executions", Submitted, method="POST", body=body, headers=headers)
    return str(submitted["execution_id"])
