"""A graph of LangGraph, run as a step, its stream the step's events. Needs ``tailrace[langgraph]``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiosqlite
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.config import get_stream_writer
from langgraph.pregel import Pregel
from langgraph.types import Command

from tailrace.bus.errors import InvalidInputError
from tailrace.workers.adapters.rendering import rendered
from tailrace.workers.definition.context import Context

MODES: Final = ("values", "updates", "custom", "messages", "debug", "tasks", "checkpoints")
_RUN: Final = "tailrace"
_THREADS: Final = "tailrace.langgraph"
_INTERRUPT: Final = "__interrupt__"
_NODE: Final = re.compile("During task with name '(.*)' and id ")


async def stream_graph(
    ctx: Context,
    graph: Any,
    input: Any,  # noqa: A002 - as LangGraph calls it
    *,
    stream_mode: str | Sequence[str] = "custom",
    thread_id: str | None = None,
    checkpointer: BaseCheckpointSaver[Any] | Path | None = None,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Run a compiled graph to its end, and return its last values. Chunks become ``graph.<mode>``, messages ``token``.

    With a checkpointer (the graph's, one given, or the Path of an SQLite file) a step that is tried again or taken
    over goes on from the last checkpoint of ``thread_id``, by default the execution's id. An ``input`` of None goes on
    with a thread that another execution left. An interrupt is asked as ``ctx.ask`` does, and its answer resumes it.

    Raises InvalidInputError for an unknown mode, for a thread without a checkpoint to go on from and for a file whose
    directory is missing, TypeError for a graph that is not compiled and a checkpointer that cannot be used, and what a
    node raises, after ``graph.failed`` has named the node.
    """
    modes = _checked(stream_mode)
    thread = thread_id or ctx.execution_id
    seen = ctx.memory.setdefault(_THREADS, {}).setdefault(ctx.step, (ctx, set()))
    if seen[0] is not ctx:
        seen = ctx.memory[_THREADS][ctx.step] = (ctx, set())
    if thread in seen[1]:
        raise InvalidInputError("thread_id", f"{thread!r} was run by this step already; give each turn a step")
    seen[1].add(thread)
    async with _saved(graph, checkpointer) as saved:
        settings: dict[str, Any] = {
            **(config or {}),
            "configurable": {**(config or {}).get("configurable", {}), "thread_id": thread},
            "metadata": {**(config or {}).get("metadata", {}), _RUN: f"{ctx.execution_id}/{ctx.step}"},
        }
        return await _run(ctx, saved, input, settings, {**options, "stream_mode": modes})


def safe_stream_writer() -> Callable[[Any], None]:
    """The writer of the stream that a node runs in; outside a stream, one that writes nowhere."""
    try:
        return get_stream_writer()
    except (RuntimeError, KeyError):
        return lambda _: None


def _checked(stream_mode: str | Sequence[str]) -> tuple[str, ...]:
    modes = (stream_mode,) if isinstance(stream_mode, str) else tuple(stream_mode)
    unknown = [str(mode)[:32] for mode in modes if mode not in MODES]
    if unknown or not modes:
        wrong = f"{unknown[0]!r} is not known" if unknown else "it is empty"
        raise InvalidInputError("stream_mode", f"{wrong}; use one or more of {', '.join(MODES)}")
    return modes


class _Sqlite(AsyncSqliteSaver):
    """Can be closed after a cancel without leaving the file locked.

    LangGraph ends a cancelled stream while the write of the cancelled node still runs. A connection that is closed in
    the middle of a write keeps its lock until the garbage collector finds it, and the next execution that writes to
    the file, in any process, fails with "database is locked".
    """

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__(connection)
        self._writes: set[asyncio.Event] = set()

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        done = asyncio.Event()
        self._writes.add(done)
        try:
            await super().aput_writes(*args, **kwargs)
        finally:
            self._writes.discard(done)
            done.set()

    async def settle(self) -> None:
        """Wait for writes that run, and take back one that was cut short before its commit."""
        # A task that exists but has not begun begins now.
        await asyncio.sleep(0)
        try:
            for done in list(self._writes):
                await done.wait()
        finally:
            await self.conn.rollback()


@asynccontextmanager
async def _saved(graph: Any, checkpointer: BaseCheckpointSaver[Any] | Path | None) -> AsyncGenerator[Any]:
    if not isinstance(graph, Pregel):
        raise TypeError(f"graph is a {type(graph).__name__}, not a compiled graph: give what its compile() returns")
    if isinstance(checkpointer, Path):
        if not checkpointer.parent.is_dir():
            raise InvalidInputError("checkpointer", f"{str(checkpointer)!r} lies in no directory that exists; make it")
        async with aiosqlite.connect(str(checkpointer)) as connection:
            sqlite = _Sqlite(connection)
            try:
                yield graph.copy(update={"checkpointer": sqlite})
            finally:
                await sqlite.settle()
        return
    if checkpointer is not None:
        if not isinstance(checkpointer, BaseCheckpointSaver):
            raise TypeError(f"checkpointer is a {type(checkpointer).__name__}: give a checkpointer or a pathlib.Path")
        graph = graph.copy(update={"checkpointer": checkpointer})
    if isinstance(graph.checkpointer, SqliteSaver):
        raise TypeError("checkpointer is a SqliteSaver, which has no async methods: give an AsyncSqliteSaver or a Path")
    yield graph


async def _run(ctx: Context, graph: Any, given: Any, settings: dict[str, Any], options: dict[str, Any]) -> Any:
    modes = options["stream_mode"]
    options = {**options, "stream_mode": sorted({*modes, "values"}), "subgraphs": True}
    keeps = isinstance(graph.checkpointer, BaseCheckpointSaver)
    values = None
    if keeps:
        # LangGraph's own default keeps a checkpoint while the next node runs: a kill then loses a node that is done.
        options = {"durability": "sync", **options}
        state = await graph.aget_state(settings)
        own = (state.metadata or {}).get(_RUN) == settings["metadata"][_RUN]
        if given is None and state.created_at is None:
            raise InvalidInputError("input", f"is None, and thread {settings['configurable']['thread_id']!r} is new")
        if given is None or own:
            values, given = state.values, None
            # A node that has written, but whose checkpoint is not kept yet, is in ``tasks`` and no longer in ``next``.
            if not state.tasks:
                return rendered(values)
            if state.interrupts:
                given = await _answers(ctx, state.interrupts)
    elif given is None:
        raise InvalidInputError("input", "is None, but without a checkpointer there is nothing to go on from")
    while True:
        interrupts: tuple[Any, ...] = ()
        try:
            async with aclosing(graph.astream(given, settings, **options)) as chunks:
                async for namespace, mode, chunk in chunks:
                    if mode == "values" and not namespace:
                        interrupts = chunk.get(_INTERRUPT, ()) if isinstance(chunk, dict) else ()
                        values = chunk
                    if mode in modes:
                        await _tell(ctx, list(namespace), mode, chunk)
        except Exception as error:
            await ctx.emit("graph.failed", {"node": _node(error), "error": type(error).__name__, "message": str(error)})
            raise
        if not keeps and not interrupts:
            return rendered(values)
        if not keeps:
            raise TypeError("the graph was interrupted, and has no checkpointer to resume it from: give it one")
        state = await graph.aget_state(settings)
        if not state.tasks:
            return rendered(state.values)
        if not state.interrupts:
            raise RuntimeError(f"the graph stopped before {', '.join(state.next)}: ask by interrupt() in a node")
        given = await _answers(ctx, state.interrupts)


async def _answers(ctx: Context, interrupts: Sequence[Any]) -> Any:
    """LangGraph gives an interrupt the same id on every worker, so a question that was answered is not asked again."""
    answers = {each.id: await ctx.ask(rendered(each.value), key=f"interrupt-{each.id}") for each in interrupts}
    return Command(resume=answers)


async def _tell(ctx: Context, namespace: list[str], mode: str, chunk: Any) -> None:
    about: dict[str, Any] = {"mode": mode, **({"namespace": namespace} if namespace else {})}
    if mode != "messages":
        await ctx.emit(f"graph.{mode}", rendered(chunk), meta=about)
        return
    message, metadata = chunk
    about |= {"message": message.id, "node": metadata.get("langgraph_node"), "tags": list(metadata.get("tags") or ())}
    if text := str(message.text):
        await ctx.token(text, meta=about)
    if getattr(message, "tool_call_chunks", None) or getattr(message, "tool_calls", None):
        await ctx.emit("graph.messages", rendered(message), meta=about)


def _node(error: BaseException) -> str | None:
    """LangGraph notes at an exception which node raised it; the innermost of subgraphs comes first."""
    found = (_NODE.match(note) for note in getattr(error, "__notes__", ()))
    return next((match[1] for match in found if match), None)
