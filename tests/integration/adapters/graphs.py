"""Graphs that workers of a test run, and what the graphs leave on disk."""

from __future__ import annotations

import asyncio
import operator
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel

from tailrace import Context, Pipeline, Registry, Step
from tailrace.workers.adapters.langgraph import safe_stream_writer, stream_graph


class Finding(BaseModel):
    probe: str


@dataclass
class Score:
    value: float


class Notes(TypedDict):
    notes: Annotated[list[Any], operator.add]


def mark(name: str) -> None:
    with (Path(os.environ["GRAPH_DIRECTORY"]) / "marks").open("a") as marks:
        marks.write(f"{name}\n")


async def first(state: Notes) -> Any:
    safe_stream_writer()({"says": "first"})
    return {"notes": [Finding(probe="sqli"), Score(0.5), AIMessage("hello", id="m1")]}


async def talk(state: Notes) -> Any:
    model = GenericFakeChatModel(messages=iter([AIMessage("one two")])).with_config(tags=["spoken"])
    return {"notes": [(await model.ainvoke("say")).text]}


async def broken(state: Notes) -> Any:
    raise ValueError("the target is gone")


async def begin(state: Notes) -> Any:
    mark("begin")
    return {"notes": ["begun"]}


async def wait(state: Notes) -> Any:
    mark("wait")
    safe_stream_writer()({"says": "waiting"})
    go = Path(os.environ["GRAPH_DIRECTORY"]) / "go"
    while not go.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    return {"notes": ["waited"]}


async def review(state: Notes) -> Any:
    return {"notes": [interrupt({"question": "really?"}), interrupt({"question": "sure?"})]}


def chain(**nodes: Any) -> Any:
    graph = StateGraph(Notes)
    before = START
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(before, name)
        before = name
    return graph.compile()


async def waiting(ctx: Context, given: dict[str, Any]) -> Any:
    notes: dict[str, Any] | None = None if given.get("thread") else {"notes": []}
    file = Path(os.environ["GRAPH_DIRECTORY"]) / "graphs.sqlite"
    graph = chain(begin=begin, wait=wait)
    return await stream_graph(ctx, graph, notes, thread_id=given.get("thread"), checkpointer=file)


async def reviewed(ctx: Context) -> Any:
    file = Path(os.environ["GRAPH_DIRECTORY"]) / "graphs.sqlite"
    return await stream_graph(ctx, chain(begin=begin, review=review), {"notes": []}, checkpointer=file)


registry = Registry(
    pipelines=[Pipeline("waiting", (Step("graph", waiting),)), Pipeline("reviewed", (Step("graph", reviewed),))]
)
