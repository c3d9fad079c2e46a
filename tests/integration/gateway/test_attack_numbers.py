"""What JSON or its readers cannot carry is refused on every way in, with its place; never stored as null or rounded."""

from __future__ import annotations

import dataclasses
import math
from contextlib import aclosing
from typing import Any

import httpx
import orjson
import pytest
import websockets
from pydantic import BaseModel

from tailrace.bus import Bus, InvalidEventError, InvalidInputError
from tailrace.bus.model.event import encode_json
from tailrace.bus.model.numbers import load_json
from tailrace.bus.ownership.checkpoints import pack
from tailrace.workers.errors import OutputInvalidError
from tailrace.workers.running.step_output import StepOutput

pytestmark = pytest.mark.anyio

BIG = 12345678901234567890123


@dataclasses.dataclass
class Point:
    x: float


class Rate(BaseModel):
    rate: float
    more: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"rows": [{"price": 1.0}, {"price": math.nan}]}, "data.rows.1.price"),
        ([math.inf], "data.0"),
        (-math.inf, "data"),
        ({"n": BIG}, "data.n"),
        ({"n": -(2**63) - 1}, "data.n"),
        ({"p": Point(math.nan)}, "data.p.x"),
        ({"m": Rate(rate=math.nan)}, "data.m.rate"),
        ({"m": Rate(rate=1.0, more={"deep": [math.nan]})}, "data.m.more.deep.0"),
        ({"s": {math.inf}}, "data.s.0"),
    ],
)
def test_attack_14_a_number_that_json_has_not_is_refused_with_its_place(value: Any, field: str) -> None:
    with pytest.raises(InvalidEventError) as refused:
        encode_json(value)
    assert refused.value.field == field
    with pytest.raises(InvalidEventError) as refused:
        pack(value, field="data")
    assert refused.value.field == field


def test_attack_14_what_json_has_is_taken_as_it_is() -> None:
    value = {"none": None, "most": 2**64 - 1, "least": -(2**63), "text": str(BIG), "float": 1.7976931348623157e308}
    assert orjson.loads(encode_json(value)) == load_json(encode_json(value)) == value
    assert load_json('{"digits": 0.12345678901234567890123}') == {"digits": 0.12345678901234568}


def test_attack_14_an_output_names_its_step_and_place() -> None:
    with pytest.raises(OutputInvalidError, match=r"'rate'.*mean.*nan"):
        StepOutput.of("rate", {"mean": math.nan})


async def test_attack_14_events_input_signals_meta_and_results_are_all_refused(bus: Bus) -> None:
    with pytest.raises(InvalidEventError) as refused:
        await bus.submit("count", {"n": [BIG]})
    assert refused.value.field == "input.n.0"
    async with aclosing(bus.publisher("e")) as publisher:
        for event_type in ("custom.x", "token", "execution.completed"):
            with pytest.raises(InvalidEventError) as refused:
                await publisher.emit(event_type, {"result": {"mean": math.nan}})
            assert refused.value.field == "data.result.mean"
        with pytest.raises(InvalidEventError) as refused:
            await publisher.emit("custom.x", {}, meta={"cost": math.inf})
        assert refused.value.field == "meta.cost"
        await publisher.append("execution.started")
        with pytest.raises(InvalidInputError) as wrong:
            await bus.control.signal("e", "go", {"n": math.nan})
        assert wrong.value.field == "data.n"


async def test_attack_14_over_http_a_long_integer_is_refused_with_its_field(
    bus: Bus, client: httpx.AsyncClient
) -> None:
    async with aclosing(bus.publisher("e")) as publisher:
        await publisher.append("execution.started")

    async def refused(path: str, body: str, kind: str = "application/json") -> dict[str, Any]:
        answer = await client.post(path, content=body, headers={"Content-Type": kind})
        assert answer.status_code in (200, 207, 400, 422), answer.text
        told: dict[str, Any] = answer.json()
        return told

    submitted = await refused("/v1/executions", f'{{"pipeline": "count", "input": {{"n": {BIG}}}}}')
    assert (submitted["status"], submitted["field"]) == (400, "input.n")
    event = f'{{"type": "custom.x", "data": {{"n": [1, -{BIG}]}}}}'
    assert (await refused("/v1/executions/e/events", event))["field"] == "data.n.1"
    lines = await refused("/v1/executions/e/events", event + "\n", "application/x-ndjson")
    assert "data.n.1" in str(lines)
    signal = await refused("/v1/executions/e/signals", f'{{"name": "go", "data": {{"n": {BIG}}}}}')
    assert signal["field"] == "data.n"


async def test_attack_14_over_a_websocket_too(bus: Bus, client: httpx.AsyncClient) -> None:
    async with aclosing(bus.publisher("e")) as publisher:
        await publisher.append("execution.started")
    async with websockets.connect(f"{str(client.base_url).replace('http', 'ws', 1)}/v1/ws") as socket:
        await socket.send(f'{{"op": "signal", "id": 1, "execution": "e", "name": "go", "data": {{"n": {BIG}}}}}')
        (told,) = orjson.loads(await socket.recv())
    assert (told["op"], told["field"]) == ("error", "data.n")
