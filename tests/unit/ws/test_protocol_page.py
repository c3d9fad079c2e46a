"""The written protocol is the protocol: schema and page agree with what the gateway checks and says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tailrace.gateway.limits.sockets import MAX_FRAME_BYTES, MAX_MALFORMED, MAX_SUBSCRIPTIONS
from tailrace.gateway.streams import socket_schema as schema
from tailrace.gateway.streams.close_codes import CloseCode
from tailrace.gateway.streams.socket_ops import check_op

PAGE = (Path(__file__).parents[3] / "docs" / "websocket.md").read_text()
EXAMPLES: list[Any] = [json.loads(example) for example in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
SAID = [example for example in EXAMPLES if isinstance(example, list)]
ASKED = [example for example in EXAMPLES if isinstance(example, dict)]


def test_the_schema_file_is_what_the_models_say() -> None:
    written = Path(schema.__file__).with_name("socket_schema.json").read_text()
    assert written == schema.render(), (
        "write it anew: python -m tailrace.gateway.streams.socket_schema > gateway/streams/socket_schema.json"
    )


@pytest.mark.parametrize("example", SAID, ids=lambda example: "+".join(message["op"] for message in example))
def test_every_example_of_what_the_gateway_says_keeps_to_the_schema(example: list[Any]) -> None:
    schema.SERVER_FRAME.validate_python(example)


@pytest.mark.parametrize("example", ASKED, ids=lambda example: example["op"])
def test_every_example_of_what_a_client_says_is_an_op(example: dict[str, Any]) -> None:
    assert check_op(example).op == example["op"]


def test_the_page_has_an_example_of_every_frame() -> None:
    definitions = schema.document()["$defs"]

    def ops(side: str) -> set[str]:
        frame = definitions[side]
        refs = (frame.get("items") or frame)["oneOf"]
        names = [ref["$ref"].rpartition("/")[2] for ref in refs]
        spoken = [definitions[name]["properties"]["op"] for name in names]
        return {op for each in spoken for op in each.get("enum", [each.get("const")])}

    assert {message["op"] for example in SAID for message in example} == ops("ServerFrame")
    assert {example["op"] for example in ASKED} == ops("ClientFrame")


def test_the_page_tells_every_close_code_and_limit() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d{4}) \|", PAGE, re.MULTILINE)}
    assert {int(code) for code in CloseCode} <= told
    for limit in (MAX_FRAME_BYTES // 1024, MAX_SUBSCRIPTIONS, MAX_MALFORMED):
        assert re.search(rf"\b{limit}\b", PAGE)
