"""The work: a document is fetched, archived and stored, each step is told, and another worker can go on with it."""

from __future__ import annotations

from typing import Any, Final

import library
from agents import Agents, agents_of
from documents import Document, Limit, document_at, document_of, within
from fetching import FetchError, fetch_list, fetch_text
from pydantic import BaseModel

from tailrace import Context, Pipeline, Registry, Step

STEPS: Final = (
    *("extracting_id", "extracted_id", "checking_cache", "fetching_transcript", "transcript_fetched"),
    *("archiving", "archived", "storing", "stored"),
)
MAX_ITEMS: Final = 1000
MAX_ERRORS: Final = 20


class Given(BaseModel):
    """Either a URL, or a title and a text."""

    url: str | None = None
    title: str = ""
    text: str | None = None
    channel_limit: Limit = "50"

    @property
    def document(self) -> Document:
        return document_of(self.title, self.text or "") if self.url is None else document_at(self.url)


class Ingest:
    """One document on its way.

    What is kept of it by ``checkpoint`` is not told again by a worker that takes it over; what had been begun is done
    and told again, with the ``attempt``.
    """

    def __init__(self, ctx: Context, agents: Agents, document: Document, item: int = 1, items: int = 1) -> None:
        self._ctx, self._agents, self._document = ctx, agents, document
        self._item, self._items = item, items
        kept = ctx.restored or {}
        is_ours = kept.get("key") == document.key
        self._kept: dict[str, Any] = kept if is_ours else {"key": document.key, "said": [], "archived": None}
        self._said_before = frozenset(self._kept["said"])

    async def say(self, step: str, message: str, **extras: Any) -> None:
        if step in self._said_before:
            return
        if self._items > 1:
            extras |= {"item": self._item, "items": self._items}
        if self._ctx.attempt > 1:
            extras |= {"attempt": self._ctx.attempt}
        await self._ctx.emit("progress", {"step": step, "message": message, **extras})
        self._kept["said"].append(step)
        if step in STEPS:
            done = (self._item - 1 + (STEPS.index(step) + 1) / len(STEPS)) / self._items
            await self._agents.tell("progress", "coordinator", "running", message, round(done, 3))

    async def begun(self) -> dict[str, Any] | None:
        """Returns how it is stored already, if it is."""
        document = self._document
        await self.say("extracting_id", f"Extracting the id of {document.source}")
        await self.say("extracted_id", f"The id is {document.id}", id=document.id, type=document.kind)
        await self.say("checking_cache", "Checking whether it is in the database")
        row: library.Row | None = await library.find(document)
        return row

    async def run(self, text: str | None) -> dict[str, Any]:
        """Raises FetchError."""
        document, ours = self._document, self._ctx.execution_id
        row = await self.begun()
        if row is not None and row["ingest_id"] != ours:
            return self._outcome("skipped", "Already ingested", row)
        if row is None:
            await self._ctx.checkpoint(self._kept)
            archived = self._kept["archived"] or await self._archived(text)
            async with self._agents.working("librarian", f"Storing {document.id}"):
                await self.say("storing", "Saving to the database")
                is_first = await library.store(document, **archived, ingest_id=ours)
            row = await library.find(document) or {}
            if not is_first:
                return self._outcome("skipped", "Another ingest was first", row)
        await self.say("stored", "The database record is there", key=document.key)
        return self._outcome("success", f"Ingested {document.kind}", row)

    async def _archived(self, text: str | None) -> dict[str, Any]:
        document = self._document
        async with self._agents.working("fetcher", f"Fetching {document.source}"):
            await self.say("fetching_transcript", f"Fetching the text of {document.source}")
            text = await fetch_text(document.source) if text is None else text
            length = len(text)
            await self.say("transcript_fetched", f"Text fetched ({length:,} chars)", transcript_length=length)
        async with self._agents.working("archivist", f"Archiving {document.id}"):
            await self.say("archiving", "Archiving to storage")
            name = await library.archive(document, text)
            await self.say("archived", f"Archived as {name}", archive=name)
        archived = self._kept["archived"] = {"archived": name, "length": length}
        await self._ctx.checkpoint(self._kept)
        return archived

    def _outcome(self, status: str, message: str, row: dict[str, Any]) -> dict[str, Any]:
        document = self._document
        shown = {name: row.get(name) for name in ("archive", "length", "ingested_at")}
        details = {"id": document.id, "key": document.key, "source": document.source, **shown}
        return {"type": document.kind, "status": status, "message": f"{message}: {document.id}", "details": details}


async def ingest_channel(ctx: Context, agents: Agents, channel: Document, limit: Limit) -> dict[str, Any]:
    """Its items one after the other. One that fails is told and counted, and the others go on."""
    whole = Ingest(ctx, agents, channel)
    await whole.say("extracting_id", f"Extracting the id of {channel.source}")
    await whole.say("extracted_id", f"The channel is {channel.id}", id=channel.id, type="channel")
    async with agents.working("fetcher", f"Fetching the list of {channel.id}"):
        await whole.say("fetching_list", f"Fetching the list of {channel.source}")
        listed = within(await fetch_list(channel.source), limit)
        urls = listed[:MAX_ITEMS]
        await whole.say("list_fetched", f"{len(urls)} items", items=len(urls), limit=limit)
    counts = {"success": 0, "skipped": 0, "error": 0}
    errors: list[str] = []
    for number, url in enumerate(urls, start=1):
        try:
            document = _item_at(url)
            status = (await _ingest_item(ctx, agents, document, number, len(urls)))["status"]
        except (FetchError, ValueError) as error:
            status = "error"
            errors.append(f"{url[:200]}: {error}")
            await whole.say("item_failed", errors[-1], item=number, items=len(urls))
        counts[status] += 1
    told = f"{counts['success']} ingested, {counts['skipped']} skipped, {counts['error']} failed"
    status = "success" if counts["success"] else "error" if counts["error"] else "skipped"
    left_out = len(listed) - len(urls)
    details = {"id": channel.id, "key": channel.key, "limit": limit, **counts, "left_out": left_out}
    message = f"Ingested channel {channel.id}: {told}" + (f", {left_out} left out" if left_out else "")
    return {
        "type": "channel",
        "status": status,
        "message": message,
        "details": {**details, "errors": errors[:MAX_ERRORS]},
    }


def _item_at(url: str) -> Document:
    document = document_at(url)
    if document.kind == "channel":
        raise ValueError("is a channel within a channel")
    return document


async def _ingest_item(ctx: Context, agents: Agents, document: Document, number: int, items: int) -> dict[str, Any]:
    row = await library.find(document)
    if row is not None and row["ingest_id"] == ctx.execution_id:
        # An earlier attempt of this ingest has done and told it, but for its last word where it was cut off there.
        return {"status": "success"}
    return await Ingest(ctx, agents, document, number, items).run(None)


async def ingest(ctx: Context, given: Given) -> dict[str, Any]:
    """Raises FetchError, which ends it in ``execution.failed``; for who watches, in a ``complete`` of status error."""
    document = given.document
    agents = await agents_of(ctx.execution_id)
    async with agents.working("coordinator", f"Ingesting {document.source}"):
        if document.kind == "channel":
            return await ingest_channel(ctx, agents, document, given.channel_limit)
        return await Ingest(ctx, agents, document).run(given.text)


registry = Registry([Pipeline("ingest", (Step("ingest", ingest),), Given)])
