"""What has been ingested: a SQLite file, and a folder with the texts. All instances and workers share both.

It stands for a database of your own: on several hosts, INGEST_DIR must be one that they all see, or a server.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from documents import Document, Limit, within

FOLDER: Final = Path(os.environ.get("INGEST_DIR", "ingest-data"))
BUSY_SECONDS: Final = 30.0
SCHEMA: Final = """CREATE TABLE IF NOT EXISTS documents (
    key TEXT PRIMARY KEY, id TEXT, type TEXT, source TEXT, archive TEXT, length INTEGER,
    ingested_at TEXT, ingest_id TEXT)"""
Row = dict[str, Any]


async def find(document: Document) -> Row | None:
    return await asyncio.to_thread(_find, document.key)


async def archive(document: Document, text: str) -> str:
    """Returns its name in the archive. Written beside and moved there: nobody finds half of it."""
    return await asyncio.to_thread(_archive, document, text)


async def store(document: Document, *, archived: str, length: int, ingest_id: str) -> bool:
    """Returns whether this ingest has it stored, now or before it was taken over; False when another was first."""
    row = (document.key, document.id, document.kind, document.source, archived, length)
    return await asyncio.to_thread(_store, (*row, datetime.now(UTC).isoformat(), ingest_id))


async def listed(limit: Limit) -> list[Row]:
    """Without texts; the newest first."""
    rows = await asyncio.to_thread(_rows)
    chosen: list[Row] = within(((datetime.fromisoformat(row["ingested_at"]), row) for row in rows), limit)
    return chosen


async def count() -> int:
    return await asyncio.to_thread(_count)


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(FOLDER / "documents.sqlite", timeout=BUSY_SECONDS)) as database, database:
        database.row_factory = sqlite3.Row
        database.execute(SCHEMA)
        yield database


def _find(key: str) -> Row | None:
    with _database() as database:
        row = database.execute("SELECT * FROM documents WHERE key = ?", (key,)).fetchone()
        return None if row is None else dict(row)


def _archive(document: Document, text: str) -> str:
    folder = FOLDER / "archive"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{document.key}.txt"
    beside = folder / f"{name}.{os.getpid()}.part"
    beside.write_text(text, encoding="utf-8")
    beside.replace(folder / name)
    return name


def _store(row: tuple[Any, ...]) -> bool:
    with _database() as database:
        database.execute("INSERT OR IGNORE INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        (stored_by,) = database.execute("SELECT ingest_id FROM documents WHERE key = ?", row[:1]).fetchone()
        return bool(stored_by == row[-1])


def _rows() -> list[Row]:
    with _database() as database:
        return [dict(row) for row in database.execute("SELECT id, type, source, length, ingested_at FROM documents")]


def _count() -> int:
    with _database() as database:
        (number,) = database.execute("SELECT count(*) FROM documents").fetchone()
        return int(number)
