"""Facts on SQLite: the contract, and what only SQLite does."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from sqlite3 import OperationalError

import pytest

from homeport.clock import SystemClock
from homeport.db import sqlite
from homeport.db.database import Database, DatabaseError, DatabaseFull, Transaction
from homeport.db.sqlite import BATCH_MAX, FOLD_BYTES, FOLD_LOOK_COMMITS, MEMORY, SqliteDatabase
from homeport.testing.database_suite import (
    DatabaseSuite,
    FactFailed,
    SharedDatabaseSuite,
    add,
    add_and_fail,
    create,
    get,
    increase,
    names,
)
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


class Flushes:
    """Stands between the log and the disk: counts the flushes, holds them up, and has them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        #: How many bytes of the log are on the disk for certain.
        self.durable_bytes = 0
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.failures: list[OSError] = []
        self._fdatasync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._flush)

    async def begins(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=20)

    def _flush(self, handle: int) -> None:
        self.count += 1
        self.begun.release()
        assert self.go_on.wait(20)
        if self.failures:
            raise self.failures.pop()
        length = os.fstat(handle).st_size
        self._fdatasync(handle)
        self.durable_bytes = length


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flushes]:
    flushes = Flushes(monkeypatch)
    yield flushes
    flushes.go_on.set()


# --- commits that are shared ------------------------------------------------------------------------------------


async def test_facts_of_one_turn_share_a_commit_and_a_flush(database: SqliteDatabase, flushes: Flushes) -> None:
    statements = trace(database)
    await asyncio.gather(*(database.write(add, str(number)) for number in range(BATCH_MAX)))
    assert statements.count("COMMIT") == 1
    assert statements.count("SAVEPOINT fact") == BATCH_MAX
    assert flushes.count == 1


async def test_no_commit_is_shared_by_more_than_the_bound(database: SqliteDatabase) -> None:
    statements = trace(database)
    await asyncio.gather(*(database.write(add, str(number)) for number in range(3 * BATCH_MAX + 1)))
    commits = [part.count("SAVEPOINT fact") for part in "\n".join(statements).split("COMMIT")]
    assert commits == [BATCH_MAX, BATCH_MAX, BATCH_MAX, 0, 0]  # the last fact is alone and needs no savepoint


async def test_others_get_their_turn_between_two_commits(database: SqliteDatabase) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    await asyncio.gather(*(database.jot(add, str(number)) for number in range(10 * BATCH_MAX)))
    counting.cancel()
    assert turns >= 10


class Commits:
    """Has commits fail: for each in its turn what it raises, or None."""

    def __init__(self, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self._transact = database._transact
        monkeypatch.setattr(database, "_transact", self._failing_transact)

    def _failing_transact(self, function: Callable[[Transaction], object]) -> object:
        error = self.errors.pop(0) if self.errors else None
        if isinstance(error, sqlite._Busy):
            raise error  # before anything was done

        def then_fail(tx: Transaction) -> object:
            result = function(tx)
            if error is not None:
                raise error
            return result

        return self._transact(then_fail)


async def test_a_commit_that_fails_is_tried_with_each_fact_alone(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact may run twice, with the effect of one."""
    await database.write(add, "a")
    ran: list[str] = []

    def fact(tx: Transaction, name: str) -> int:
        ran.append(name)
        return increase(tx, "a")

    commits = Commits(database, monkeypatch, OperationalError("disk I/O error"))
    assert await asyncio.gather(*(database.write(fact, name) for name in "xyz")) == [1, 2, 3]
    assert ran == ["x", "y", "z", "x", "y", "z"]
    assert not commits.errors


async def test_what_was_committed_alone_is_not_committed_again(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may come between the facts of a commit that failed."""
    await database.write(add, "a")
    Commits(database, monkeypatch, OperationalError("disk I/O error"), None, sqlite._Busy("locked"))
    outcomes = await asyncio.gather(*(database.write(increase, "a") for _ in range(3)), return_exceptions=True)
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], DatabaseError)
    assert outcomes[2] == 2
    assert await database.read(get, "a") == 2


# --- flushes ----------------------------------------------------------------------------------------------------


async def test_a_write_returns_when_the_log_is_flushed_and_not_before(
    database: SqliteDatabase, flushes: Flushes
) -> None:
    flushes.go_on.clear()
    writing = asyncio.ensure_future(database.write(add, "a"))
    await flushes.begins()
    await asyncio.sleep(0.01)
    assert not writing.done()
    flushes.go_on.set()
    assert await writing == "a"


async def test_what_a_power_cut_leaves_of_the_log_has_every_write_that_returned(
    tmp_path: Path, database: SqliteDatabase, flushes: Flushes
) -> None:
    """Whatever stands behind the last flush: nothing, zeros, or pages of it and not others."""
    answered: dict[str, int] = {}
    number = itertools.count()  # in the order of the commits

    async def write() -> None:
        name = await database.write(add, f"{next(number):04}")
        answered[name] = flushes.durable_bytes

    async def jot() -> None:
        await database.jot(add, f"{next(number):04}")

    for _ in range(12):
        await asyncio.gather(write(), write(), jot(), write())
        await jot()
    log = (tmp_path / "homeport.db-wal").read_bytes()
    data = (tmp_path / "homeport.db").read_bytes()
    written = await database.read(names)
    cuts = sorted(set(answered.values()))
    assert len(cuts) >= 12
    for cut in cuts:
        for tail in (b"", bytes(len(log) - cut), bytes(4096) + log[cut + 4096 :], log[cut : cut + 5000]):
            copy = tmp_path / f"cut-{cut}.db"
            for suffix, content in (("", data), ("-wal", log[:cut] + tail), ("-shm", b"")):
                copy.with_name(copy.name + suffix).write_bytes(content)
            reopened = SqliteDatabase(copy, SystemClock())
            kept = await reopened.read(names)
            await reopened.close()
            assert {name for name, durable in answered.items() if durable <= cut} <= set(kept)
            assert kept == written[: len(kept)], "it is not a beginning of what was written"


async def test_whoever_commits_while_a_flush_runs_waits_for_the_next(
    database: SqliteDatabase, flushes: Flushes
) -> None:
    flushes.go_on.clear()
    first = asyncio.ensure_future(database.write(add, "a"))
    await flushes.begins()
    others = [asyncio.ensure_future(database.write(add, name)) for name in "bcd"]
    await asyncio.sleep(0.01)
    flushes.go_on.set()
    await asyncio.gather(first, *others)
    assert flushes.count == 2


async def test_nobody_waits_for_a_flush_but_who_writes(database: SqliteDatabase, flushes: Flushes) -> None:
    flushes.go_on.clear()
    writing = asyncio.ensure_future(database.write(add, "a"))
    await flushes.begins()
    await database.jot(add, "b")
    assert await database.read(names) == ["a", "b"]
    with pytest.raises(FactFailed):
        await database.write(add_and_fail, "c")
    flushes.go_on.set()
    await writing


async def test_jots_alone_are_not_flushed(database: SqliteDatabase, flushes: Flushes) -> None:
    await database.jot(add, "a")
    await asyncio.gather(*(database.jot(add, name) for name in "bc"))
    assert flushes.count == 0
    await asyncio.gather(database.jot(add, "d"), database.write(add, "e"), database.jot(add, "f"))
    assert flushes.count == 1


async def test_after_a_flush_that_failed_nothing_is_written(database: SqliteDatabase, flushes: Flushes) -> None:
    """The kernel forgets what it could not write, and would call the next flush a success."""
    await database.write(add, "a")
    flushes.failures.append(OSError(errno.EIO, "Input/output error"))
    flushes.go_on.clear()
    first = asyncio.ensure_future(database.write(add, "b"))
    for _ in range(2):
        await flushes.begins()
    second = asyncio.ensure_future(database.write(add, "c"))  # is committed while the flush is about to fail
    await asyncio.sleep(0.01)
    flushes.go_on.set()
    for writing in (first, second, database.write(add, "d"), database.jot(add, "e")):
        with pytest.raises(DatabaseError, match="Input/output error"):
            await writing
    assert flushes.count == 2
    assert "a" in await database.read(names)


async def test_the_log_s_own_name_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[Path, bool]] = []
    log = tmp_path / "homeport.db-wal"
    monkeypatch.setattr(sqlite, "_sync_folder", lambda folder: synced.append((folder, log.exists())))
    for _ in range(2):
        await SqliteDatabase(tmp_path / "homeport.db", SystemClock()).close()
    assert synced == [(tmp_path, True)] * 2


# --- the log ----------------------------------------------------------------------------------------------------


async def test_the_log_does_not_grow_without_bound(tmp_path: Path, database: SqliteDatabase) -> None:
    """Also where somebody writes and reads without a pause."""
    log = tmp_path / "homeport.db-wal"
    largest = 0
    for number in range(800):
        await database.write(add, f"{number:040000}")
        await database.read(lambda tx: tx.one("SELECT * FROM items"))
        largest = max(largest, log.stat().st_size)
    assert FOLD_BYTES < largest < 5 * FOLD_BYTES


async def test_jots_alone_do_not_make_it_grow_without_bound(tmp_path: Path, database: SqliteDatabase) -> None:
    log = tmp_path / "homeport.db-wal"
    sizes = []
    for number in range(4000):
        await database.jot(add, f"{number:02000}")
        sizes.append(log.stat().st_size)
    assert any(after < before for before, after in itertools.pairwise(sizes)), "it was never begun anew"


async def test_who_reads_for_long_elsewhere_stops_no_writes(tmp_path: Path, database: SqliteDatabase) -> None:
    await database.write(add, "a")
    other = sqlite3.connect(tmp_path / "homeport.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM items").fetchone()
    for number in range(150):
        await database.write(add, f"{number:040000}")
    log = tmp_path / "homeport.db-wal"
    grown = log.stat().st_size
    assert grown > FOLD_BYTES
    assert other.execute("SELECT count(*) FROM items").fetchone() == (1,)
    other.execute("ROLLBACK")
    other.close()
    for number in range(
        100 * FOLD_LOOK_COMMITS
    ):  # three times as many will do where nothing else keeps the machine busy
        await database.write(add, f"again {number}")
        if log.stat().st_size < FOLD_BYTES:
            break
    assert log.stat().st_size < FOLD_BYTES


# --- settings that matter ---------------------------------------------------------------------------------------


async def test_the_rules_of_the_schema_hold(database: SqliteDatabase) -> None:
    def pragmas(tx: Transaction) -> list[object]:
        return [(tx.one(f"PRAGMA {name}") or (None,))[0] for name in ("journal_mode", "foreign_keys")]

    assert await database.write(pragmas) == ["wal", 1]


async def test_nobody_else_may_read_the_files(tmp_path: Path, database: SqliteDatabase) -> None:
    await database.write(add, "a")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("homeport.db", "homeport.db-wal", "homeport.db-shm"), 0o600)


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


async def test_who_waits_for_another_process_holds_up_nobody(tmp_path: Path, database: SqliteDatabase) -> None:
    other = sqlite3.connect(tmp_path / "homeport.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(database.write(add, "a"))
    for _ in range(100):
        await asyncio.sleep(0)
        assert await database.read(names) == []
    assert not writing.done()
    other.execute("COMMIT")
    other.close()
    assert await writing == "a"


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
