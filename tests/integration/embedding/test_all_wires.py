"""Whatever is appended when, and at whichever byte a reader is cut off: it gets what an uncut reader gets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Final
from uuid import uuid4

import hypothesis.strategies as st
import pytest
from fastapi import FastAPI, Request, WebSocket
from hypothesis import HealthCheck, given, settings
from starlette.responses import Response

from tailrace import (
    Bus,
    BusSettings,
    Frame,
    Gap,
    Gateway,
    GatewaySettings,
    NdjsonWire,
    ShownEntry,
    SocketWire,
    SseWire,
    Wire,
    frame,
    open_bus,
)
from tests.integration.embedding.cut_readers import (
    GAP,
    MsgpackReader,
    NdjsonReader,
    OwnNdjsonReader,
    OwnSocketReader,
    OwnSseReader,
    Reader,
    SocketReader,
    SseReader,
    Unit,
)
from tests.integration.embedding.served import serving

pytestmark = pytest.mark.anyio


def shown(entry_type: str, data: Any) -> list[tuple[str, Any]]:
    """What the wires below make of an entry: one frame, several, or none."""
    match entry_type:
        case "token":
            return [("token", data["text"])]
        case "custom.pair":
            return [("first", data), ("second", data), ("third", data)]
        case "custom.hidden":
            return []
        case "execution.completed":
            return [("result", data["result"])]
    return [("mark", data)]


class NamedWire(SseWire):
    def show(self, entry: ShownEntry) -> Iterator[Frame]:
        return (frame(what, data) for what, data in shown(entry.type, entry.data))

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        return frame(GAP, {"of": execution_id, "reason": gap.reason})


class MovingWire(NamedWire):
    def moved(self, execution_id: str) -> Frame:
        return frame("moved", {"of": execution_id})


class DoublingWire(NamedWire):
    """Its tokens are of two frames, so that they are not merged."""

    def show(self, entry: ShownEntry) -> Iterator[Frame]:
        if entry.type == "token":
            return iter((frame("head", len(entry.data["text"])), frame("token", entry.data["text"])))
        return super().show(entry)


class LinesWire(NdjsonWire):
    def show(self, entry: ShownEntry) -> Iterator[Frame]:
        return (frame({"what": what, "data": data}) for what, data in shown(entry.type, entry.data))

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        return frame({"what": GAP, "of": execution_id, "reason": gap.reason})


class MessagesWire(SocketWire):
    def show(self, entry: ShownEntry) -> Iterator[Frame]:
        return (frame({"what": what, "data": data}) for what, data in shown(entry.type, entry.data))

    def gap(self, execution_id: str, gap: Gap) -> Frame:
        return frame({"what": GAP, "of": execution_id, "reason": gap.reason})


OWN: Final[dict[str, type[Wire]]] = {
    "named": NamedWire,
    "moving": MovingWire,
    "doubling": DoublingWire,
    "lines": LinesWire,
}
READERS: Final[dict[str, tuple[type[Reader], str]]] = {
    "sse": (SseReader, "/v1/executions/{}/events"),
    "sse-message": (SseReader, "/v1/executions/{}/events?events=message"),
    "sse-merged": (SseReader, "/v1/executions/{}/events?merge=tokens"),
    "sse-filtered": (SseReader, "/v1/executions/{}/events?types=token,custom.mark&coalesce_ms=5"),
    "ndjson": (NdjsonReader, "/v1/executions/{}/events"),
    "ndjson-merged": (NdjsonReader, "/v1/executions/{}/events?merge=tokens&coalesce_ms=5"),
    "several": (SseReader, "/v1/stream?execution={0}&execution={0}-other"),
    "several-merged": (SseReader, "/v1/stream?execution={0}&execution={0}-other&merge=tokens"),
    "socket": (SocketReader, "/v1/executions/{}/ws"),
    "socket-msgpack": (MsgpackReader, "/v1/executions/{}/ws"),
    "own-sse": (OwnSseReader, "/own/named/{}"),
    "own-sse-merged": (OwnSseReader, "/own/named/{}?tokens=merged"),
    "own-sse-moving": (OwnSseReader, "/own/moving/{}"),
    "own-sse-doubling-merged": (OwnSseReader, "/own/doubling/{}?tokens=merged"),
    "own-ndjson": (OwnNdjsonReader, "/own/lines/{}"),
    "own-socket": (OwnSocketReader, "/own-socket/{}"),
}
ENTRIES: Final = st.one_of(
    st.tuples(st.just("token"), st.text(st.characters(exclude_categories=["Cs"]), max_size=40)),
    st.tuples(st.just("custom.pair"), st.integers(0, 9)),
    st.tuples(st.just("custom.hidden"), st.integers(0, 9)),
)
ROUNDS: Final = st.lists(
    st.tuples(
        st.lists(ENTRIES, max_size=12),
        # Short of the head of a response, within it, or far into its body.
        st.one_of(st.none(), st.integers(0, 600), st.integers(0, 6000)),
        st.sampled_from(["go on", "go on", "go on", "trim"]),
    ),
    max_size=5,
)


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


@pytest.fixture
async def port(bus: Bus) -> AsyncGenerator[int, None]:
    gateway = Gateway(bus, settings=GatewaySettings(drain_seconds=0.0))
    app = FastAPI(lifespan=gateway.lifespan)
    app.include_router(gateway.router)

    @app.get("/own/{wire}/{run}")
    async def own(wire: str, run: str, request: Request, tokens: str = "") -> Response:
        return gateway.stream(request, run, wire=OWN[wire](), merge="tokens" if tokens else None)

    @app.websocket("/own-socket/{run}")
    async def own_socket(socket: WebSocket, run: str) -> None:
        await gateway.socket(socket, run, wire=MessagesWire())

    async with serving(app) as address:
        yield int(address.rsplit(":", 1)[1])


@pytest.mark.parametrize("wire", list(READERS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=ROUNDS)
async def test_a_reader_that_is_cut_at_any_byte_gets_what_an_uncut_reader_gets(
    bus: Bus, port: int, wire: str, rounds: list[tuple[list[tuple[str, Any]], int | None, str]]
) -> None:
    run = f"r{uuid4().hex[:8]}"
    kind, path = READERS[wire]
    reader = kind(port, path.format(run))
    log: list[tuple[str, Any]] = []
    async with aclosing(bus.publisher(run)) as publisher, aclosing(bus.publisher(f"{run}-other")) as other:

        async def emit(what: str, data: Any) -> None:
            await publisher.emit(what, data)
            log.append((what, data))

        await emit("custom.mark", -1)
        await other.emit("custom.mark", -1)
        for mark, (entries, most_bytes, then) in enumerate(rounds, 1000):
            for what, given_data in entries:
                await emit(what, {"text": given_data} if what == "token" else given_data)
                await publisher.flush()
            await emit("custom.mark", mark)
            await publisher.flush()
            await reader.read(most_bytes, mark)
            if then == "trim":
                await bus.commands.command("XTRIM", bus.keys.log(run), "MAXLEN", 3)
        await emit("execution.completed", {"result": -2})
        await other.emit("execution.completed", {"result": -3})
    for _ in range(3):
        if not reader.ended:
            await reader.read(None, -4)
    assert reader.ended
    own = wire.startswith("own")
    units = [unit for unit in reader.units if is_told(unit, run)]
    ids = [unit.id for unit in units if unit.id is not None and unit.what != GAP]
    assert len(ids) == len(set(ids))
    expected = list(expected_of(wire, log))
    got = [(unit.what, unit.data) for unit in units]
    assert all(then == "go on" for *_, then in rounds) <= (GAP not in {what for what, _ in got})
    assert_all_there(got if not own else list(map(plain, got)), expected, merged="merged" in wire)


def is_told(unit: Unit, run: str) -> bool:
    return unit.execution in {run, "own"} and not unit.what.startswith(("stream.", "op.", "moved"))


def plain(told: tuple[str, Any]) -> tuple[str, Any]:
    return (GAP, None) if told[0] == GAP else told


def expected_of(wire: str, log: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for what, data in log:
        if wire == "sse-filtered" and what in {"custom.pair", "custom.hidden"}:
            continue
        if not wire.startswith("own"):
            yield what, data
        else:
            if "doubling" in wire and what == "token":
                yield "head", len(data["text"])
            yield from shown(what, data)


def assert_all_there(got: list[tuple[str, Any]], expected: list[tuple[str, Any]], *, merged: bool) -> None:
    """In order, whole, each once; where a loss was told, any number of them may be missing."""
    if merged:
        got, expected = list(characters(got)), list(characters(expected))
    pieces: list[list[tuple[str, Any]]] = [[]]
    for told in got:
        if told[0] == GAP:
            pieces.append([])
        else:
            pieces[-1].append(told)
    if len(pieces) == 1:
        assert got == expected
        return
    first, *others, last = pieces
    assert first == expected[: len(first)]
    at = len(first)
    for piece in others:
        while piece != expected[at : at + len(piece)]:
            at += 1
            assert at <= len(expected), f"{piece} is not there, or not in order"
        at += len(piece)
    assert len(expected) - len(last) >= at, "something came twice"
    assert last == expected[len(expected) - len(last) :]


def characters(told: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Tokens as their characters: however they were cut up, and merged, the text is the same."""
    for what, data in told:
        if what != "token":
            yield what, data
        else:
            yield from (("character", each) for each in (data if isinstance(data, str) else data["text"]))
