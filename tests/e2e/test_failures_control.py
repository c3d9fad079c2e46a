"""Failure case 31: a cancellation that is lost between replicas, or said to be done while the run goes on.

Sources: aegra 528; vercel/ai 6502 and 18458. Gateways, and whoever runs the execution, are processes that share nothing
but Redis, as they would on different hosts.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tailrace.bus import Bus
from tests.e2e.logs import log_ids
from tests.e2e.steered import Order, SteeredProcess
from tests.e2e.waiting import eventually
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def other_gateway(server_url: str, module_prefix: str) -> Iterator[GatewayProcess]:
    with GatewayProcess(redis_url=server_url, prefix=module_prefix) as process:
        yield process


@pytest.fixture
def order(server_url: str, module_prefix: str, run: str) -> Order:
    return Order(redis_url=server_url, prefix=module_prefix, run=run)


async def begun(bus: Bus, run: str) -> None:
    async def says_that_it_runs() -> bool:
        """the other program runs"""
        return len(await log_ids(bus, run)) > 3

    await eventually(says_that_it_runs)


async def log_types(bus: Bus, run: str) -> list[str]:
    raw = await bus.commands.command("XRANGE", bus.keys.log(run), "-", "+")
    return [dict(zip(fields[::2], fields[1::2], strict=True))[b"t"].decode() for _, fields in raw]


async def cancel(url: str, run: str, wait_seconds: float, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, timeout=patient(60)) as client:
        return await client.post(f"/v1/executions/{run}/cancel?wait={wait_seconds:g}", json=body)


async def status_at(url: str, run: str) -> str:
    async with httpx.AsyncClient(base_url=url) as client:
        return str((await client.get(f"/v1/executions/{run}")).json()["status"])


async def test_case_31_a_cancel_at_any_gateway_stops_a_run_on_another_host_and_wait_tells_the_outcome(
    bus: Bus, gateway_url: str, other_gateway: GatewayProcess, order: Order, run: str
) -> None:
    with SteeredProcess(order) as program:
        await begun(bus, run)
        response = await cancel(gateway_url, run, 20, reason="changed my mind", by="ann")
        ids = await log_ids(bus, run)
        assert response.status_code == 200
        told = response.json()
        assert (told["status"], told["outcome"]["type"]) == ("cancelled", "execution.cancelled")
        assert told["outcome"]["data"] == {"reason": "changed my mind", "by": "ann", "request": told["request"]}
        assert told["outcome"]["id"] == ids[-1]
        assert await status_at(other_gateway.url(), run) == "cancelled"
        assert program.wait() == 0
    assert (await log_ids(bus, run)) == ids


async def test_case_31_wait_does_not_return_before_the_run_has_stopped(
    bus: Bus, gateway_url: str, order: Order, run: str
) -> None:
    """It goes on for 0.7 s after it was told, saying so a hundred times a second."""
    with SteeredProcess(order.model_copy(update={"stops": "after a while"})) as program:
        await begun(bus, run)
        asking = asyncio.create_task(cancel(gateway_url, run, 20))
        response = await asking
        types = await log_types(bus, run)
        assert response.status_code == 200
        asked = types.index("execution.cancel_requested")
        assert len(types) - asked > 10
        assert types[asked + 1 : -1] == ["custom.running"] * (len(types) - asked - 2)
        assert types[-1] == "execution.cancelled"
        assert program.wait() == 0
    assert await log_types(bus, run) == types


async def test_case_31_a_wait_that_is_too_short_says_so_and_never_that_it_was_cancelled(
    bus: Bus, gateway_url: str, other_gateway: GatewayProcess, order: Order, run: str
) -> None:
    other_url = other_gateway.url()
    with SteeredProcess(order.model_copy(update={"stops": "after a while", "cleanup_seconds": 4.0})):
        await begun(bus, run)
        response = await cancel(gateway_url, run, 0.3)
        assert (response.status_code, response.json()["outcome"]) == (202, None)
        assert response.json()["status"] == "cancelling"
        assert await status_at(other_url, run) == "cancelling"
        second = await cancel(other_url, run, 20)
        assert (second.status_code, second.json()["status"]) == (200, "cancelled")
        assert second.json()["outcome"]["data"]["request"] == response.json()["request"]


async def test_case_31_what_does_not_stop_is_ended_by_force_and_appends_nothing_more(
    bus: Bus, gateway_url: str, order: Order, run: str
) -> None:
    with SteeredProcess(order.model_copy(update={"stops": "never"})):
        await begun(bus, run)
        response = await cancel(gateway_url, run, 20, grace_seconds=0.5)
        assert response.status_code == 200
        assert response.json()["outcome"]["data"]["forced"] is True
        ids = await log_ids(bus, run)
        assert ids[-1] == response.json()["outcome"]["id"]
        await asyncio.sleep(0.3)
        assert await log_ids(bus, run) == ids


async def test_case_31_a_cancel_whose_gateway_dies_while_it_waits_is_carried_out(
    bus: Bus, other_gateway: GatewayProcess, order: Order, run: str
) -> None:
    with SteeredProcess(order.model_copy(update={"stops": "after a while"})):
        await begun(bus, run)
        with GatewayProcess(redis_url=order.redis_url, prefix=order.prefix) as dying:
            asking = asyncio.create_task(cancel(dying.url(), run, 20))

            async def was_asked() -> bool:
                """the request stands in the log"""
                return "execution.cancel_requested" in await log_types(bus, run)

            await eventually(was_asked)
            dying.signal(signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                await asking
        again = await cancel(other_gateway.url(), run, 20)
        assert (await log_types(bus, run))[-1] == "execution.cancelled"
        if again.status_code == 200:
            assert again.json()["status"] == "cancelled"
        else:
            assert again.json()["code"] == "execution_closed"


async def test_case_31_a_cancel_of_a_run_whose_host_stands_still_is_carried_out_without_it(
    bus: Bus, gateway_url: str, order: Order, run: str
) -> None:
    """SIGSTOP: its lease runs out, a gateway ends it, and what it says when it wakes is refused."""
    with SteeredProcess(order.model_copy(update={"lease_seconds": 1.0})) as program:
        await begun(bus, run)
        program.signal(signal.SIGSTOP)
        response = await cancel(gateway_url, run, 20, grace_seconds=1, reason="gone")
        program.signal(signal.SIGCONT)
        assert response.status_code == 200
        assert response.json()["outcome"]["type"] == "execution.cancelled"
        assert response.json()["outcome"]["data"]["request"] == response.json()["request"]
        ids = await log_ids(bus, run)
        assert ids[-1] == response.json()["outcome"]["id"]
        assert program.wait() == 0
    assert await log_ids(bus, run) == ids
