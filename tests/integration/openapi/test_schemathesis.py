"""What the OpenAPI document promises, asked by a program that believes every word of it and then tries to break it.

No answer is a 5xx, none has a status that the document does not name, and each body has the form that it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, cast
from uuid import uuid4

import orjson
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.bus.deployment import Standalone
from tailrace.bus.model.counters import Counters
from tailrace.bus.redis.address import dial_of
from tailrace.bus.redis.commands import Commands
from tailrace.gateway.app import create_app
from tailrace.gateway.settings import read_settings
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient

EXAMPLES: Final = 25
KNOWN: Final = ("ended", "queued")
SHORT: Final = 3
# What no test ends: a stream that goes on as long as its execution is only asked for its head.
STREAMS: Final = ("text/event-stream", "application/x-ndjson")
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prefix_of_module() -> str:
    return f"t{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def gateway(server_url: str, prefix_of_module: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(redis_url=server_url, prefix=prefix_of_module) as process:
        yield process


@pytest.fixture(scope="module", autouse=True)
def known(server_url: str, prefix_of_module: str) -> None:
    """One that has ended, and one that waits."""

    async def make() -> None:
        async with await open_bus(server_url, settings=BusSettings(prefix=prefix_of_module)) as bus:
            async with bus.execution("ended") as execution:
                await execution.append("custom.a", {"n": 1})
            await bus.submit("document", {"path": "x"}, execution_id="queued", queue="nobody")

    asyncio.run(make())


def _document() -> dict[str, Any]:
    """Made without a connection, while tests are collected: so each operation is a test of its own."""
    counters = Counters()
    nowhere = Standalone(dial_of("redis://127.0.0.1:1"), counters)
    bus = Bus(BusSettings(), cast("Commands", None), counters=counters, deployment=nowhere)
    return create_app(bus, read_settings()).openapi()


schema = schemathesis.openapi.from_dict(_document())


@schemathesis.serializer("application/x-ndjson")
def as_lines(context: Any, value: Any) -> bytes:
    del context
    lines = value if isinstance(value, list) else [value]
    return b"".join(line.encode() if isinstance(line, str) else orjson.dumps(line) + b"\n" for line in lines)


@schema.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Make one that is there of each id that is shorter than most: or nearly all answers would be 404."""
    del context
    given = str((path_parameters or {}).get("execution_id", "x" * SHORT))
    if path_parameters and len(given) < SHORT:
        path_parameters["execution_id"] = KNOWN[len(given) % len(KNOWN)]
    return path_parameters


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_names(case: schemathesis.Case[Any], gateway: GatewayProcess) -> None:
    request = case.as_transport_kwargs(base_url=gateway.url())
    with requests.Session() as session, session.request(**request, stream=True, timeout=patient(20)) as response:
        kind = response.headers.get("content-type", "").partition(";")[0]
        if response.ok and kind in STREAMS:
            assert str(response.status_code) in case.operation.definition.raw["responses"]
            return
        # Read here: a stream that the document does not name would be read for ever.
        assert response.content is not None
        case.validate_response(response, checks=CHECKS)
