"""The documentation says what is so: its code runs, its tables are the code's, its links lead somewhere."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import AsyncGenerator, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from pydantic_settings import BaseSettings

from tailrace.bus import Bus, BusSettings, open_bus
from tailrace.cli.app import app
from tailrace.cli.client.gateway_url import DEFAULT_GATEWAY
from tailrace.cli.exit_codes import MEANINGS, ExitCode
from tailrace.gateway.settings import GatewaySettings
from tailrace.workers import WorkerSettings
from tests.e2e.docs_support_page import Page
from tests.e2e.docs_support_site import RUN, ToolMissingError, open_site
from tests.e2e.docs_support_wire import every_frame, line_shapes, members, shapes
from tests.integration.gateway.live import live_gateway

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
WRITTEN: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WITH_CODE: Final = [README, *sorted((ROOT / "docs").glob("*.md"))]
# Shown, and read by a test of their own or by people.
SHOWN: Final = {"text", "json", "sse", "ndjson", "nginx", "haproxy", "html"}
# Read by the command line itself.
OTHER_VARIABLES: Final = {"TAILRACE_GATEWAY": DEFAULT_GATEWAY, "TAILRACE_TOKEN": "unset", "TAILRACE_DEBUG": "unset"}
UNSET: Final = "unset"


def page_of(path: Path) -> Page:
    return Page(str(path.relative_to(ROOT)), path.read_text())


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", WITH_CODE, ids=named)
def test_every_block_is_run_or_shown_on_purpose(path: Path) -> None:
    for block in page_of(path).blocks:
        assert block.language in {*RUN, *SHOWN}, f"{block.place}: {block.language!r}"
        assert block.not_run != "", f"{block.place}: say why it is not run, as in <!-- not run: reason -->"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", WITH_CODE, ids=named)
def test_code_runs_as_it_stands(path: Path, tmp_path: Path) -> None:
    """From the top of the page to its end, by a newcomer who has run the README's Python before."""
    blocks = [block for block in page_of(path).blocks if block.language in RUN and block.not_run is None]
    if not blocks:
        return
    if path != README:
        blocks = [block for block in page_of(README).blocks if block.language == "python"] + blocks
    missing = []
    with open_site(tmp_path, README) as site:
        for block in blocks:
            try:
                site.run(block)
            except ToolMissingError as error:
                missing.append(str(error))
    if missing:
        assert os.environ.get("TAILRACE_CI_REQUIRE") != "1", f"CI requires every tool: {missing}"
        pytest.skip(f"all but: {'; '.join(missing)}")


@pytest.mark.parametrize("path", WRITTEN, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for link in page_of(path).links:
        parts = urlsplit(link)
        if parts.scheme in {"http", "https"}:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        assert target.is_relative_to(ROOT), link
        assert target.exists(), f"{named(path)} links to {link}, which is not there"
        if parts.fragment:
            assert parts.fragment in page_of(target).anchors, f"{named(path)} links to {link}: no such heading"


@pytest.mark.parametrize("path", WRITTEN, ids=named)
def test_make_has_the_targets_that_are_named(path: Path) -> None:
    page = page_of(path)
    lines = chain(page.code_spans, *(text.splitlines() for text in page.blocks_of("sh")))
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    known = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))

    assert targets <= set(known.split())


def test_the_map_has_every_room_and_names_only_files_that_exist() -> None:
    page = page_of(ROOT / "docs/architecture.md")
    packages = ("bus", "gateway", "workers", "tailrace/cli")
    rooms = {named(init.parent) for package in packages for init in (ROOT / package).glob("*/__init__.py")}
    mapped = {row[0] for row in page.rows if row[0].startswith(packages)}
    files = re.findall(r"\b(?:bus|gateway|workers|tailrace)/[\w/]+\.(?:py|lua)\b", page.text)

    assert rooms <= mapped
    assert all((ROOT / name).exists() for name in mapped)
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_every_command_has_its_section() -> None:
    documented = {name for name in page_of(ROOT / "docs/running.md").headings if name.startswith("tailrace ")}

    assert documented == {
        f"tailrace {command.name or command.callback.__name__}"
        for command in app.registered_commands
        if command.callback
    }


def test_exit_codes_are_those_of_the_code() -> None:
    rows = [row for row in page_of(ROOT / "docs/running.md").rows if row[0].isdecimal()]

    assert {int(row[0]): row[1] for row in rows} == {code.value: code.name for code in ExitCode}
    meanings = {int(row[0]): row[2] for row in rows}
    assert {code: meaning for code, meaning in meanings.items() if code in MEANINGS} == MEANINGS


def test_settings_are_those_of_the_code_with_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for row in page_of(ROOT / "docs/running.md").rows if row[0].startswith("TAILRACE_")]
    documented = {row[0]: row[1] for row in rows}
    models: tuple[type[BaseSettings], ...] = (BusSettings, GatewaySettings, WorkerSettings)
    for name in [name for name in os.environ if name.startswith("TAILRACE_")]:
        monkeypatch.delenv(name)
    defaults = [model() for model in models]

    assert len(documented) == len(rows)
    assert documented.keys() == OTHER_VARIABLES.keys() | {
        f"TAILRACE_{field.upper()}" for model in models for field in model.model_fields
    }
    assert documented | OTHER_VARIABLES == documented
    for name, default in documented.items():
        if default != UNSET:
            monkeypatch.setenv(name, default)
    assert [model() for model in models] == defaults
    for field in (name.removeprefix("TAILRACE_").lower() for name, default in documented.items() if default == UNSET):
        assert not any(getattr(given, field, None) for given in defaults), f"{field} has a default"


def problems_in(source: str) -> Iterator[tuple[str, int]]:
    """Code and status of every problem that a module makes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            match node.func.id, node.args:
                case "Problem", [ast.Constant(int(status)), ast.Constant(str(code)), *_]:
                    yield code, status
                case "unavailable", [ast.Constant(str(code)), *_]:
                    yield code, 503
                case "UnauthenticatedError", [ast.Constant(str(code)), *_]:
                    yield code, 401
                case "ForbiddenError", [ast.Constant(str(code)), *_]:
                    yield code, 403


async def test_problem_codes_are_those_of_the_code(bus: Bus) -> None:
    rows = [row for row in page_of(ROOT / "docs/errors.md").rows if len(row) == 4 and row[1].isdecimal()]
    async with live_gateway(bus) as gateway, httpx.AsyncClient(base_url=gateway) as client:
        # Starlette's own, which no module of ours spells.
        of_starlette = [(await client.get("/nowhere")).json(), (await client.delete("/healthz")).json()]

    made = chain.from_iterable(problems_in(path.read_text()) for path in (ROOT / "gateway").rglob("*.py"))
    assert len({row[0] for row in rows}) == len(rows)
    assert {(row[0], int(row[1])) for row in rows} == {
        *made,
        *((problem["code"], problem["status"]) for problem in of_starlette),
    }


@pytest.fixture
async def bus(server_url: str, prefix: str) -> AsyncGenerator[Bus, None]:
    async with await open_bus(server_url, settings=BusSettings(prefix=prefix)) as opened:
        yield opened


pytestmark = pytest.mark.anyio


async def test_frames_on_the_wire_are_as_shown(bus: Bus) -> None:
    """Every kind of frame that is shown is sent, and every control frame that is sent is shown."""
    page = page_of(ROOT / "docs/wire.md")
    shown = set(shapes(page.blocks_of("sse")))
    shown_lines = set(line_shapes("".join(page.blocks_of("ndjson"))))

    streams, lines = await every_frame(bus)
    sent = set(shapes(streams))
    sent_lines = set(line_shapes(lines))

    assert shown <= sent
    assert {shape[1] for shape in sent} == {shape[1] for shape in shown}
    assert shown_lines <= sent_lines
    assert {name for name, _ in sent_lines} <= {name for name, _ in shown_lines} | {shape[1] for shape in shown}


async def test_json_answers_are_as_shown(bus: Bus) -> None:
    async with bus.execution("hello") as execution:
        execution.result = {"counted": 5}
    async with live_gateway(bus) as gateway, httpx.AsyncClient(base_url=f"{gateway}/v1") as client:
        submission = {"pipeline": "document", "input": {"path": "/nowhere"}, "execution_id": "readme-2"}
        answers = [
            await client.get("/executions/hello/events?limit=1"),
            await client.post("/executions", json=submission),
            await client.get("/executions/hello"),
            await client.get("/executions/build-8"),
        ]

    pages = (page_of(ROOT / f"docs/{name}.md") for name in ("wire", "errors"))
    shown: list[Any] = [json.loads(text) for page in pages for text in page.blocks_of("json")]
    assert [members(answer.json()) for answer in answers] == [members(example) for example in shown]
    assert answers[3].json() == shown[3]


async def test_json_answers_of_the_api_are_as_shown(bus: Bus) -> None:
    for number in range(2):
        await bus.submit("document", execution_id=f"readme-{number}")
    lines = '{"type": "log"}\n{"type": "log"}\n'
    async with live_gateway(bus) as gateway, httpx.AsyncClient(base_url=f"{gateway}/v1") as client:
        answers = [
            await client.get("/executions?limit=1"),
            await client.post(
                "/executions/sensor-7/events", content=lines, headers={"Content-Type": "application/x-ndjson"}
            ),
        ]

    shown: list[Any] = [json.loads(text) for text in page_of(ROOT / "docs/api.md").blocks_of("json")]
    assert [members(answer.json()) for answer in answers] == [members(example) for example in shown]


async def test_every_route_is_listed(bus: Bus) -> None:
    async with live_gateway(bus) as gateway, httpx.AsyncClient(base_url=gateway) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    routes = {
        f"{method.upper()} {path.replace('{execution_id}', '{id}')}" for path, ways in paths.items() for method in ways
    }
    listed = {span for span in page_of(ROOT / "docs/api.md").code_spans if re.fullmatch(r"[A-Z]+ /\S+", span)}

    # Those that are no operations of OpenAPI.
    files = {"GET /openapi.json", "GET /web/tailrace.js", "GET /web/{version}/tailrace.js"}
    assert listed - routes <= {"GET /v1/ws", *files}
    assert routes <= listed


async def test_a_reconnect_after_the_ending_gets_204_and_no_other_cursor_does(bus: Bus) -> None:
    async with bus.execution("over"):
        pass
    terminal = str(await bus.log.latest("over"))
    async with live_gateway(bus) as gateway, httpx.AsyncClient(base_url=gateway) as client:
        url = "/v1/executions/over/events"
        over = await client.get(url, headers={"Last-Event-ID": terminal})
        before = await client.get(f"{url}?from={terminal}", headers={"Last-Event-ID": "0"})
        malformed = await client.get(url, headers={"Last-Event-ID": "7"})

    assert (over.status_code, over.content) == (204, b"")
    assert before.status_code == 200
    assert "stream.end" in before.text
    assert malformed.json()["code"] == "invalid_cursor"
