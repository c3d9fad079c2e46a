"""The graph: a look at the target, then one probe after the other, agent by agent; a checkpoint behind each."""

from __future__ import annotations

import operator
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from probes import AGENTS, PROBES, Probe, ask, origin_of
from pydantic import BaseModel

from tailrace import Context, Pipeline, Registry, Step
from tailrace.workers.adapters.langgraph import safe_stream_writer, stream_graph

Persistence = Literal["none", "memory", "persistent"]
FOLDER: Final = Path(os.environ.get("SCAN_DIR", "scan-data"))
# From so sure on that a detector is, a probe has failed: the target is open to it.
FAIL_SCORE: Final = 0.5
# For scans of this worker: one that goes on elsewhere begins anew.
MEMORY: Final = InMemorySaver()


class Given(BaseModel):
    """What to scan. With ``thread`` a scan goes on with the checkpoints that another one has left."""

    target_url: str = ""
    campaign_id: str | None = None
    agent_types: list[str] = list(AGENTS)
    checkpoint: Persistence = "persistent"
    thread: str | None = None


class Swarm(TypedDict):
    """``events`` is what is kept of all nodes, ``done`` how many probes are over."""

    audit_id: str
    target_url: str
    agent_types: list[str]
    done: int
    events: Annotated[list[dict[str, Any]], operator.add]


def probes_of(state: Swarm) -> list[Probe]:
    return [probe for agent in state["agent_types"] for probe in PROBES if probe.agent == agent]


def write(node: str, kind: str, agent: str | None, progress: float, data: dict[str, Any]) -> None:
    """To who watches as it happens; outside a stream, to nobody."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"type": kind, "timestamp": now, "node": node, "agent": agent, "progress": round(progress, 4), "data": data}
    safe_stream_writer()(event)


async def look(state: Swarm) -> dict[str, Any]:
    """Raises TargetError for a target that is not there."""
    status, _ = await ask(origin_of(state["target_url"]), "/", {})
    count = len(probes_of(state))
    write("recon", "scan_started", None, 0.0, {"status_code": status, "probes": count})
    return {"events": [{"type": "scan_started", "agents": state["agent_types"], "probes": count}]}


async def execute(state: Swarm) -> dict[str, Any]:
    """The next probe. Raises TargetError."""
    probes, done = probes_of(state), state["done"]
    probe = probes[done]
    if done == 0 or probes[done - 1].agent != probe.agent:
        write("execute_agent", "agent_started", probe.agent, done / len(probes), {})
    answer = await ask(origin_of(state["target_url"]), probe.path, probe.query, probe.headers)
    score = probe.detect(*answer)
    outcome = {"probe_name": probe.name, "status": "fail" if score >= FAIL_SCORE else "pass"}
    done += 1
    write("execute_agent", "probe_result", probe.agent, done / len(probes), {**outcome, "detector_score": score})
    return {"done": done, "events": [{"type": "probe_result", "agent": probe.agent, **outcome}]}


def rest(state: Swarm) -> str:
    return "execute_agent" if state["done"] < len(probes_of(state)) else END


def build_swarm_graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    graph = StateGraph(Swarm)
    graph.add_node("recon", look)
    graph.add_node("execute_agent", execute)
    graph.add_edge(START, "recon")
    graph.add_conditional_edges("recon", rest, ["execute_agent", END])
    graph.add_conditional_edges("execute_agent", rest, ["execute_agent", END])
    return graph.compile()


GRAPH: Final = build_swarm_graph()


async def scan(ctx: Context, given: Given) -> dict[str, Any]:
    """Raises TargetError, which ends it in ``execution.failed``; for who watches, in a ``log`` of level error first."""
    checkpointer: Path | InMemorySaver | None = None
    if given.checkpoint == "persistent":
        FOLDER.mkdir(parents=True, exist_ok=True)
        checkpointer = FOLDER / "checkpoints.sqlite"
    elif given.checkpoint == "memory":
        checkpointer = MEMORY
    state: Swarm | None = None
    if given.thread is None:
        state = {
            "audit_id": ctx.execution_id,
            "target_url": given.target_url,
            "agent_types": given.agent_types,
            "done": 0,
            "events": [],
        }
    values = await stream_graph(
        ctx,
        GRAPH,
        state,
        stream_mode=["updates", "custom"],
        thread_id=given.thread,
        checkpointer=checkpointer,
        config={"recursion_limit": len(PROBES) + 10},
    )
    results = [event for event in values["events"] if event["type"] == "probe_result"]
    failed = [event["probe_name"] for event in results if event["status"] == "fail"]
    return {"target_url": values["target_url"], "probes": len(results), "failed": failed}


registry = Registry([Pipeline("scan", (Step("scan", scan),), Given)])
