"""Whatever stands in a stream's query or headers: an answer that the documents know, and a gateway that lives on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailrace.bus import BusSettings, open_bus
from tests.integration.gateway.live import GatewayProcess
from tests.patience import patient

NAMES: Final = ["from", "types", "step", "mode", "events", "coalesce_ms", "after", "limit", "last", "wait", "execution"]
# Of the kinds that a careless reader takes for what they look like, and anything else.
CURSORS: Final = ["", "0", "-1", "tail", "1-1", "0-0", "18446744073709551616-1", "1760000000000-7"]
WORDS: Final = ["values", "debug", "message", "step.*", "*", "a" * 200, ",", "a,b", "a\r\nX-Evil: 1", "\x00"]
NUMBERS: Final = ["1e3", "\uff11", "0x10", "-0", "1_0", " 1"]
values = st.one_of(
    st.sampled_from([*CURSORS, *WORDS, *NUMBERS]),
    st.text(max_size=40),
    st.integers().map(str),
)
queries = st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=8), values), max_size=6)
# What a header may hold at all (RFC 9110, section 5.5); h11 refuses to send the rest.
header_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=60).map(str.strip)
KNOWN: Final = {200, 204, 400, 404, 406, 409, 422}


@pytest.fixture(scope="module")
def base(server_url: str) -> Iterator[str]:
    """A gateway with one execution that has ended: its streams end by themselves."""
    prefix = f"t{uuid4().hex[:8]}"

    async def make() -> None:
        async with (
            await open_bus(server_url, settings=BusSettings(prefix=prefix)) as bus,
            bus.execution("run") as execution,
        ):
            await execution.append("step.progress", {"progress": 1}, step="one")

    asyncio.run(make())
    with GatewayProcess(redis_url=server_url, prefix=prefix) as gateway:
        yield gateway.url()
        assert not [line for line in gateway.errors if "Traceback" in line or "ERROR" in line]


def ask(base: str, path: str, headers: dict[str, str]) -> httpx.Response:
    with httpx.Client(base_url=base, timeout=patient(60)) as client:
        return client.get(path, headers=headers)


def check(answer: httpx.Response) -> None:
    assert answer.status_code in KNOWN, answer.text
    assert "x-evil" not in answer.headers
    if answer.status_code >= 400:
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["code"]
        assert problem["detail"]


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    query=queries,
    accept=st.sampled_from(["text/event-stream", "application/x-ndjson", "application/json", "*/*"]) | header_values,
    last_id=st.none() | header_values,
)
def test_any_query_and_any_last_event_id_are_answered_well(
    base: str, query: list[tuple[str, str]], accept: str, last_id: str | None
) -> None:
    # A wait is what it says: not here.
    kept = [(name, value) for name, value in query if name != "wait"]
    headers = {"Accept": accept, **({} if last_id is None else {"Last-Event-ID": last_id})}
    encoded = urlencode(kept, errors="surrogatepass")
    check(ask(base, f"/v1/executions/run/events?{encoded}", headers))
    check(ask(base, f"/v1/stream?execution=run&{encoded}", headers))


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(path=st.text(max_size=30), raw=st.binary(max_size=30))
def test_any_path_is_answered_well(base: str, path: str, raw: bytes) -> None:
    for written in (quote(path, safe="", errors="surrogatepass"), quote(raw)):
        answer = ask(base, f"/v1/executions/{written}", {})
        assert answer.status_code in {200, 400, 404, 405}, answer.text
