"""A user's session: what is kept between turns is the result of the last turn that ended well.

So a turn that fails, or is not done in time, changes nothing; and a session is there for as long as that result is
kept: an hour, unless the bus keeps the logs of what has ended for longer (``TAILRACE_ENDED_SECONDS``).
"""

from __future__ import annotations

from typing import Any

from tailrace import Bus, ExecutionUnknownError, ResultLostError

Todo = dict[str, Any]


def labels_of(user_id: str) -> dict[str, str]:
    return {"user": user_id}


async def open_session(bus: Bus, user_id: str) -> bool:
    """Returns whether there was none."""
    if await todos_of(bus, user_id) is not None:
        return False
    async with bus.execution(pipeline="session", labels=labels_of(user_id)) as opened:
        opened.result = {"todos": []}
    return True


async def todos_of(bus: Bus, user_id: str) -> list[Todo] | None:
    """None where the user has no session."""
    cursor = None
    while True:
        page = await bus.list(labels=labels_of(user_id), status=["completed"], limit=1, cursor=cursor)
        for state in page.items:
            try:
                todos: list[Todo] = (await bus.handle(state.execution_id).result())["todos"]
            except (ResultLostError, ExecutionUnknownError):
                return None
            return todos
        if page.next is None:
            return None
        cursor = page.next
