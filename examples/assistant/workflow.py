"""The workflow: the commands that the agent may give, each with what it answers."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from openai import AsyncOpenAI
from session import Todo

from tailrace import Context
from tailrace.workers.adapters.openai import stream_completion

NAME = "todo"
MODEL = os.environ.get("ASSISTANT_MODEL", "offline")
# Together they keep what a turn gives below the megabyte that an output may have.
MAX_COMMANDS, MAX_TODOS, MAX_TITLE = 20, 100, 100
MAX_WAIT_SECONDS = 60.0
_PATTERNS = (
    ("create_todo", r"create (?:a )?todo(?:[: ] *(?P<title>.*))?"),
    ("list_todos", r"(?:list|show) (?:my |all )?todos"),
    ("complete_todo", r"(?:complete|finish) todo (?P<number>\d{1,9})"),
    ("wait", r"wait (?P<seconds>\d{1,4}(?:\.\d{1,3})?)"),
    ("fail", r"fail"),
)


@dataclass(frozen=True, slots=True)
class Command:
    raw: str
    name: str
    parameters: dict[str, str]


def commands_of(query: str) -> list[Command]:
    """Commands stand on lines of their own, or behind ";" or "and then"; what is none is a question to the model."""
    return [_command(raw) for raw in re.split(r"\s*(?:;|\n|\band then\b)\s*", query) if raw.strip()]


def _command(raw: str) -> Command:
    for name, pattern in _PATTERNS:
        if found := re.fullmatch(pattern, raw.strip(), re.IGNORECASE):
            return Command(raw, name, {key: value for key, value in found.groupdict().items() if value})
    return Command(raw, "ask_model", {"question": raw})


async def run(ctx: Context, command: Command, todos: list[Todo]) -> tuple[bool, str]:
    """Whether it could be done, and what it answers. ``todos`` are changed in place."""
    given = command.parameters
    match command.name:
        case "create_todo":
            return _create(todos, given.get("title", "something to do"))
        case "list_todos":
            return True, "\n".join(_line(todo) for todo in todos) or "there are no todos"
        case "complete_todo":
            return _complete(todos, int(given["number"]))
        case "wait":
            return await _wait(float(given["seconds"]))
        case "fail":
            raise RuntimeError("the command 'fail' always fails")
    return await _ask_model(ctx, given["question"])


def _line(todo: Todo) -> str:
    return f"{todo['number']}. [{'x' if todo['done'] else ' '}] {todo['title']}"


def _create(todos: list[Todo], title: str) -> tuple[bool, str]:
    if len(title) > MAX_TITLE or len(todos) >= MAX_TODOS:
        return False, f"there can be {MAX_TODOS} todos, of {MAX_TITLE} characters each"
    todos.append({"number": len(todos) + 1, "title": title, "done": False})
    return True, f"created todo {len(todos)}: {title}"


def _complete(todos: list[Todo], number: int) -> tuple[bool, str]:
    if not 1 <= number <= len(todos):
        return False, f"no todo has the number {number}"
    todos[number - 1]["done"] = True
    return True, f"completed todo {number}: {todos[number - 1]['title']}"


async def _wait(seconds: float) -> tuple[bool, str]:
    if seconds > MAX_WAIT_SECONDS:
        return False, f"{seconds:g} s is too long; wait at most {MAX_WAIT_SECONDS:g} s"
    await asyncio.sleep(seconds)
    return True, f"waited {seconds:g} s"


@cache
def _client() -> AsyncOpenAI:
    """One for all turns: making it reads certificates, which stops the worker for a moment.

    OPENAI_BASE_URL and OPENAI_API_KEY say where the model is, and who asks it.
    """
    return AsyncOpenAI()


async def _ask_model(ctx: Context, question: str) -> tuple[bool, str]:
    """Its tokens are told as they come."""
    messages: list[Any] = [{"role": "user", "content": question}]
    answer = await stream_completion(ctx, _client(), model=MODEL, messages=messages)
    return answer["refusal"] is None, answer["refusal"] or answer["text"]
