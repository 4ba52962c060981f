"""The database of a data folder, which is all that a verb works on that asks a running server for something."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from homeport.clock import SystemClock
from homeport.db.database import Database
from homeport.db.sqlite import SqliteDatabase


@asynccontextmanager
async def open_database(path: Path) -> AsyncIterator[Database]:
    """The SQLite file at `path`, beside a server that runs on it."""
    database = SqliteDatabase(path, SystemClock())
    try:
        yield database
    finally:
        await database.close()
