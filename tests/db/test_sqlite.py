"""Facts on SQLite: the contract, and what only SQLite does."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from homeport.clock import SystemClock
from homeport.db import sqlite
from homeport.db.database import Database, DatabaseError, DatabaseFull, Transaction
from homeport.db.sqlite import BATCH_MAX, MEMORY, SqliteDatabase
from homeport.testing.database_suite import DatabaseSuite, SharedDatabaseSuite, add, create, increase, names
from tests.support.components import need_root


class TestMemory(DatabaseSuite):
    @pytest.fixture
    def open_database(self) -> Callable[[], Database]:
        return lambda: SqliteDatabase(MEMORY, SystemClock())


class TestFile(SharedDatabaseSuite):
    @pytest.fixture
    def open_database(self, tmp_path: Path) -> Callable[[], Database]:
        return lambda: SqliteDatabase(tmp_path / "homeport.db", SystemClock())

    @pytest.fixture
    def opener(self, tmp_path: Path) -> str:
        return f"""
            from homeport.clock import SystemClock
            from homeport.db.sqlite import SqliteDatabase
            database = SqliteDatabase({str(tmp_path / "homeport.db")!r}, SystemClock())
        """


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "homeport.db", SystemClock())
    await database.write(create)
    yield database
    await database.close()


def trace(database: SqliteDatabase) -> list[str]:
    """The statements that the writer runs from now on."""
    statements: list[str] = []
    database._writer.set_trace_callback(statements.append)
    return statements


# --- grouped commits --------------------------------------------------------------------------------------------


async def test_facts_that_wait_share_a_commit(database: SqliteDatabase) -> None:
    statements = trace(database)
    await asyncio.gather(*(database.write(add, str(number)) for number in range(200)))
    assert statements.count("COMMIT") <= 2
    assert statements.count("SAVEPOINT fact") == 200


async def test_no_commit_is_shared_by_more_than_the_bound(database: SqliteDatabase) -> None:
    statements = trace(database)
    await asyncio.gather(*(database.write(add, str(number)) for number in range(3 * BATCH_MAX + 1)))
    assert statements.count("COMMIT") >= 4
    largest = max(part.count("SAVEPOINT fact") for part in "\n".join(statements).split("COMMIT"))
    assert largest == BATCH_MAX


async def test_a_commit_that_fails_is_tried_with_each_fact_alone(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact may run twice, with the effect of one."""
    await database.write(add, "a")
    ran: list[str] = []
    failures = [sqlite3.OperationalError("disk I/O error")]

    def fact(tx: Transaction, name: str) -> int:
        ran.append(name)
        return increase(tx, "a")

    attempt = database._attempt

    def failing_attempt(batch: list[sqlite._Call]) -> list[sqlite._Outcome]:
        if len(batch) == 1:
            return attempt(batch)
        database._writer.execute("BEGIN IMMEDIATE")
        for call in batch:
            call.fact(database._transaction)
        raise failures.pop()

    monkeypatch.setattr(database, "_attempt", failing_attempt)
    assert await asyncio.gather(*(database.write(fact, name) for name in "xyz")) == [1, 2, 3]
    assert ran == ["x", "y", "z", "x", "y", "z"]
    assert not failures


async def test_only_what_is_jotted_alone_does_not_wait_for_the_disk(database: SqliteDatabase) -> None:
    statements = trace(database)
    await database.jot(add, "a")
    await database.jot(add, "b")
    await asyncio.gather(database.jot(add, "c"), database.write(add, "d"), database.jot(add, "e"))
    await database.write(add, "f")
    modes = [statement for statement in statements if statement.startswith(("PRAGMA", "COMMIT"))]
    assert modes == [
        "PRAGMA synchronous = NORMAL",
        "COMMIT",
        "COMMIT",
        "PRAGMA synchronous = FULL",
        "COMMIT",
        "COMMIT",
    ]


# --- settings that matter ---------------------------------------------------------------------------------------


async def test_commits_are_durable(database: SqliteDatabase) -> None:
    def pragmas(tx: Transaction) -> list[object]:
        asked = ("journal_mode", "synchronous", "foreign_keys")
        return [(tx.one(f"PRAGMA {name}") or (None,))[0] for name in asked]

    assert await database.write(pragmas) == ["wal", 2, 1]
    assert await database.read(pragmas) == ["wal", 2, 1]


async def test_nobody_else_may_read_the_files(tmp_path: Path, database: SqliteDatabase) -> None:
    await database.write(add, "a")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("homeport.db", "homeport.db-wal", "homeport.db-shm"), 0o600)


async def test_reading_does_not_keep_the_log_from_being_folded_in(tmp_path: Path, database: SqliteDatabase) -> None:
    """A snapshot that stayed open would let the log grow for ever."""
    for number in range(500):
        await database.write(add, f"{number:040000}")
        await database.read(lambda tx: tx.one("SELECT * FROM items"))
    assert (tmp_path / "homeport.db-wal").stat().st_size < 8 << 20


# --- no room ----------------------------------------------------------------------------------------------------


def add_large(tx: Transaction, name: str) -> str:
    return add(tx, name + "x" * (1 << 20))


def limit_pages(tx: Transaction, more: int) -> None:
    (pages,) = tx.one("PRAGMA page_count") or (0,)
    tx.run(f"PRAGMA max_page_count = {pages + more}")


async def test_a_full_database_refuses_and_keeps_what_it_has(database: SqliteDatabase) -> None:
    await database.write(add, "a")
    await database.write(limit_pages, 8)
    with pytest.raises(DatabaseFull):
        await database.write(add_large, "b")
    assert await database.read(names) == ["a"]
    await database.write(limit_pages, 10_000)
    await database.write(add_large, "b")


async def test_only_who_asks_for_too_much_is_refused(database: SqliteDatabase) -> None:
    await database.write(limit_pages, 8)
    outcomes = await asyncio.gather(
        *(database.write(add_large if name == "c" else add, name) for name in "abcde"), return_exceptions=True
    )
    assert [isinstance(outcome, DatabaseFull) for outcome in outcomes] == [False, False, True, False, False]
    assert await database.read(names) == ["a", "b", "d", "e"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 8 MiB."""
    need_root()
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_disk_refuses_and_keeps_what_it_has(small_disk: Path) -> None:
    database = SqliteDatabase(small_disk / "homeport.db", SystemClock())
    await database.write(create)
    await database.write(add, "a")
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        status = os.statvfs(small_disk)
        file.write(bytes(status.f_bavail * status.f_frsize - (64 << 10)))
    kept = ["a"]

    async def fill() -> None:
        while True:
            kept.append(await database.write(add, f"{len(kept):010000}"))

    with pytest.raises(DatabaseFull):
        await fill()
    assert await database.read(names) == sorted(kept)
    filler.unlink()
    await database.write(add_large, "z")
    await database.close()
    database = SqliteDatabase(small_disk / "homeport.db", SystemClock())
    assert len(await database.read(names)) == len(kept) + 1
    await database.close()


# --- others who write -------------------------------------------------------------------------------------------


async def test_who_waits_too_long_for_another_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.3)
    database = SqliteDatabase(tmp_path / "homeport.db", SystemClock())
    await database.write(create)
    other = sqlite3.connect(tmp_path / "homeport.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    outcomes = await asyncio.gather(*(database.write(add, str(number)) for number in range(30)), return_exceptions=True)
    assert all(isinstance(outcome, DatabaseError) for outcome in outcomes)
    assert time.monotonic() - began < 3, "each fact waited for itself"
    assert await database.read(names) == []
    other.execute("ROLLBACK")
    other.close()
    await database.write(add, "a")
    await database.close()


async def test_after_closing_everything_is_refused(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "homeport.db", SystemClock())
    await database.close()
    for ask in (database.read, database.jot, database.write):
        with pytest.raises(DatabaseError):
            await asyncio.wait_for(ask(names), 10)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "homeport.db").write_bytes(b"not a database, but a long text of something else\n" * 100)
    with pytest.raises(DatabaseError):
        SqliteDatabase(tmp_path / "homeport.db", SystemClock())
