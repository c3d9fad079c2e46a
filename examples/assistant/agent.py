"""The agent: it takes a query apart, gives the workflow one command after the other, and tells each as a trace."""

from __future__ import annotations

from typing import Any

import workflow
from pydantic import BaseModel
from session import Todo, todos_of

from tailrace import Context, Pipeline, Registry, Step, open_bus


class Turn(BaseModel):
    user_id: str
    user_query: str


async def answer(ctx: Context, given: Turn) -> dict[str, Any]:
    """A worker that takes it over goes on behind the last command that was done."""
    todos: list[Todo]
    done: list[dict[str, Any]]
    todos, done = (await _todos(given.user_id), []) if ctx.restored is None else ctx.restored
    for command in workflow.commands_of(given.user_query)[len(done) :]:
        said = {"raw_command": command.raw, "command_name": command.name, "parameters": command.parameters}
        await ctx.emit("trace", {"direction": "agent_to_workflow", **said})
        success, response = await workflow.run(ctx, command, todos)
        outcome = {"response_text": response, "success": success}
        await ctx.emit("trace", {"direction": "workflow_to_agent", **said, **outcome})
        done.append({"command_name": command.name, "parameters": command.parameters, **outcome})
        await ctx.checkpoint((todos, done))
    return {
        "success": all(each["success"] for each in done),
        "workflow_name": workflow.NAME,
        "command_responses": done,
        "todos": todos,
    }


async def _todos(user_id: str) -> list[Todo]:
    # Read here and not where it was submitted: from now on no other turn of this user can change them.
    async with await open_bus() as bus:
        todos = await todos_of(bus, user_id)
    if todos is None:
        raise RuntimeError("the session has expired since the turn was sent")
    return list(todos)


registry = Registry([Pipeline("assistant", (Step("answer", answer),), Turn)])
