"""An answer, streamed word by word in a shape of one's own; it survives reloads, and is for one user only."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import FastAPI, Header, Request, Response
from pydantic import BaseModel

from tailrace import Bus, Frame, Gateway, ShownEntry, SseWire, frame


class Question(BaseModel):
    text: str


class AnswerWire(SseWire):
    def show(self, entry: ShownEntry) -> Frame | None:
        match entry.type:
            case "token":
                return frame("text", entry.data["text"])
            case "execution.completed":
                return frame("done", entry.data["result"])
            case "execution.failed" | "execution.cancelled" | "execution.timed_out":
                return frame("failed", entry.data.get("message"))
        return None


async def answer(bus: Bus, execution: str, user: str, question: str) -> None:
    """Stands for a model. It goes on whether anybody watches or not."""
    async with bus.execution(execution, labels={"user": user}) as running:
        words = [f"{word} " for word in f"You asked: {question}".split()]
        for word in words:
            await running.emit("token", {"text": word})
            await asyncio.sleep(0.01)
        running.result = {"words": len(words)}


def application(gateway: Gateway) -> FastAPI:
    app = FastAPI(lifespan=gateway.lifespan)
    answering: set[asyncio.Task[None]] = set()

    @app.post("/answers", status_code=202)
    async def ask(question: Question, user: Annotated[str, Header()]) -> dict[str, str]:
        execution = gateway.bus.new_execution_id()
        task = asyncio.create_task(answer(gateway.bus, execution, user, question.text))
        answering.add(task)
        task.add_done_callback(answering.discard)
        return {"id": execution}

    @app.get("/answers/{execution}")
    async def watch(execution: str, request: Request, user: Annotated[str, Header()]) -> Response:
        return gateway.stream(
            request,
            execution,
            wire=AnswerWire(),
            allow=lambda state: state.labels.get("user") == user,
            merge="tokens",
            wait_for_start=1,
        )

    return app


app = application(Gateway())
