"""Facts in one SQLite file, for everybody who has one machine.

Holds:
- What `write` returned survives a power cut. Facts are committed to the write-ahead log on the event loop, without
  waiting for the disk; then the log is flushed in a thread, once for all who wait for it. A thread for the facts
  themselves would buy nothing (Python runs one of them at a time), and handing them over takes longer than they do.
- Facts that are asked for in one turn of the loop share a transaction, each in a savepoint of its own. None is ever
  open across an `await`.
- Reads run on a connection of their own, also on the event loop. They see everything that was committed before they
  were asked for, also by another process.
- After a flush that failed nobody knows what the disk has, so nothing more is written until the next start.
- `:memory:` is the same code on one connection and without a log, for tests and the simulation.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, TypeVar

from homeport.clock import Clock, Threads
from homeport.db.database import (
    ConstraintViolated,
    Database,
    DatabaseError,
    DatabaseFull,
    P,
    Parameters,
    Row,
    T,
    Transaction,
)
from homeport.db.migrate import migrate, steps

#: How many facts may share one commit: bounds how long others wait for it.
BATCH_MAX = 64
#: How long to wait for another process that is writing (the command line beside a running server).
BUSY_SECONDS = 10.0
#: How often to try to open a file that others open or close at the same time.
OPEN_ATTEMPTS = 100
#: How often to look whether it has finished. It holds the log for microseconds, as we do.
BUSY_LOOK_SECONDS = 0.002
#: The log is folded into the database after so many commits, or when it has grown to so much.
FOLD_COMMITS = 256
FOLD_BYTES = 8 * 1024 * 1024
#: How often its size is looked at.
FOLD_LOOK_COMMITS = 16
#: How long the log's end may be waited for while nobody can write.
FOLD_BUSY_SECONDS = 0.2
#: What reads keep in memory, as far as they have read it: a million tags fit.
READER_CACHE_KIB = 64 * 1024
#: The same for writes: a sweep of a hundred thousand blobs goes everywhere.
WRITER_CACHE_KIB = 64 * 1024
#: What the schema files call by these names.
WORDS = {
    "IDENTITY": "INTEGER PRIMARY KEY AUTOINCREMENT",  # never used twice, at the price of one more page for each commit
    "SERIAL": "INTEGER PRIMARY KEY",  # for tables whose newest row is never deleted, where that comes for nothing
    "BYTES": "BLOB",
    "TRANSACTION": "id",  # of an event: there is one writer, so what is committed later has a higher id
    "CLUSTERED": " WITHOUT ROWID",
}

MEMORY = ":memory:"

_INTEGER_MAX = 2**63 - 1

_R = TypeVar("_R")


class _Outcome(NamedTuple):
    """What a fact returned or raised."""

    value: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Call:
    """A fact that somebody waits for."""

    fact: Callable[[Transaction], Any]
    durable: bool
    future: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, outcome: _Outcome) -> None:
        """Tell the caller, unless it went away; what was committed stays all the same."""
        if self.future.done():
            return
        if outcome.error is not None:
            self.future.set_exception(outcome.error)
        else:
            self.future.set_result(outcome.value)


class _Busy(Exception):
    """Another process is writing."""


class _SqliteTransaction(Transaction):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def run(self, sql: str, parameters: Parameters = ()) -> int:
        return self._execute(sql, parameters).rowcount

    def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        cursor = self._execute(sql, parameters)
        row: Row | None = cursor.fetchone()
        cursor.close()  # An unfinished SELECT would keep its snapshot, and with it the log from being folded in.
        return row

    def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        return self._execute(sql, parameters).fetchall()

    def lock(self, digests: Iterable[str], *, exclusive: bool = False) -> None:
        """Nothing to do: whoever writes is alone."""

    def horizon(self) -> int:
        """Above every id: with one writer none is given while another is not committed."""
        return _INTEGER_MAX


class SqliteDatabase(Database):
    """The `Database` contract on a SQLite file."""

    def __init__(self, path: Path | str, clock: Clock) -> None:
        """Open, and bring the schema up to date. Blocks; called once, before anything is served."""
        in_memory = str(path) == MEMORY
        self._clock = clock
        if not in_memory:
            path = Path(path).resolve()  # SQLite puts the log beside what a link points at.
        self._writer = _connect(path)
        self._transaction = _SqliteTransaction(self._writer)
        self._reader = self._writer
        try:
            migrate(self._transact, steps(WORDS))
        except sqlite3.Error as error:
            raise _translated(error) from error
        if not in_memory:
            # A process whose flush failed may have left frames that only the kernel's memory has. Behind them nothing
            # would be safe, so before anything is added they are in the database, which is synced.
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._reader = _connect(path)
        self._reading = _SqliteTransaction(self._reader)
        self._ending: asyncio.Handle | None = None
        self._waiting: list[_Call] = []
        self._scheduled = False
        self._busy_since: float | None = None
        self._retrying: asyncio.Task[None] | None = None
        self._log = None if in_memory else _Log(path, clock.threads("database", 2))
        if not in_memory:
            # From here on we flush the log ourselves, and wait for another process without blocking the loop.
            self._writer.execute("PRAGMA synchronous = NORMAL")
            self._writer.execute("PRAGMA wal_autocheckpoint = 0")
            self._writer.execute("PRAGMA busy_timeout = 0")
            self._reader.execute("PRAGMA busy_timeout = 0")
            self._reader.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
            self._reader.execute("PRAGMA query_only = ON")

    async def read(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            if self._reader is self._writer:
                return self._read_beside_writer(lambda: fact(self._reading, *args, **kwargs))
            if not self._reader.in_transaction:
                self._begin_snapshot()
            return fact(self._reading, *args, **kwargs)
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def write(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._submit(_Call(lambda tx: fact(tx, *args, **kwargs), self._log is not None))
        return result

    async def jot(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._submit(_Call(lambda tx: fact(tx, *args, **kwargs), durable=False))
        return result

    async def close(self) -> None:
        while self._waiting:
            await self._clock.sleep(BUSY_LOOK_SECONDS)
        if self._ending is not None:
            self._ending.cancel()
        if self._log is not None:
            await self._log.close()
        self._reader.close()
        self._writer.close()

    def _begin_snapshot(self) -> None:
        """Begin a snapshot that every read of this turn of the event loop shares.

        It is ended by a callback that is queued now, or by our next commit. So whatever is queued later (a request that
        arrives) runs after its end and sees a new one, and no read misses what was committed before it was asked for.
        Beginning and ending costs as much as a point read, which a busy server saves this way.
        """
        self._reader.execute("BEGIN")
        self._ending = asyncio.get_running_loop().call_soon(self._end_snapshot)

    def _end_snapshot(self) -> None:
        # After an I/O error SQLite has ended it by itself.
        if self._reader.in_transaction:
            self._reader.execute("ROLLBACK")

    def _read_beside_writer(self, read: Callable[[], _R]) -> _R:
        """A read of `:memory:`, where one connection does both."""
        self._reader.execute("PRAGMA query_only = ON")
        try:
            return read()
        finally:
            self._reader.execute("PRAGMA query_only = OFF")

    async def _submit(self, call: _Call) -> Any:
        if self._log is not None:
            self._log.check()
        self._waiting.append(call)
        if not self._scheduled:
            self._schedule()
        return await call.future

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._commit_waiting)

    def _commit_waiting(self) -> None:
        """Commit what was asked for in this turn of the event loop."""
        self._scheduled = False
        batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
        try:
            self._commit(batch)
        except _Busy as busy:
            now = self._clock.monotonic()
            if self._busy_since is None:
                self._busy_since = now
            if now - self._busy_since < BUSY_SECONDS:
                self._waiting = batch + self._waiting
                self._scheduled = True
                self._retrying = asyncio.create_task(self._retry())
                return
            for call in batch:
                call.settle(_Outcome(error=DatabaseError(f"another process keeps the database busy: {busy}")))
        self._busy_since = None
        if self._waiting:
            self._schedule()

    async def _retry(self) -> None:
        await self._clock.sleep(BUSY_LOOK_SECONDS)
        self._commit_waiting()

    def _commit(self, batch: list[_Call]) -> None:
        """Run the facts of `batch` in one transaction, and settle them now or when they are durable."""
        try:
            outcomes = self._transact(lambda _: [self._attempt(call, nested=len(batch) > 1) for call in batch])
        except _Busy:
            raise
        except BaseException as error:  # noqa: BLE001 (it is its caller's)
            if len(batch) == 1:
                batch[0].settle(_Outcome(error=_for_caller(error)))
                return
            # One of them may be to blame (the disk is full and it is large): each gets a commit of its own.
            for call in batch:
                try:
                    self._commit([call])
                except _Busy as busy:
                    call.settle(_Outcome(error=DatabaseError(f"another process keeps the database busy: {busy}")))
            return
        durable = []
        for call, outcome in zip(batch, outcomes, strict=True):
            if call.durable and outcome.error is None:
                durable.append((call, outcome))
            else:
                call.settle(outcome)
        if self._log is not None:
            self._log.grew(durable)

    def _attempt(self, call: _Call, *, nested: bool) -> _Outcome:
        """What became of the fact. One that raised leaves nothing behind; alone it takes its transaction with it."""
        if not nested:
            return _Outcome(call.fact(self._transaction))
        execute = self._writer.execute
        execute("SAVEPOINT fact")
        try:
            outcome = _Outcome(call.fact(self._transaction))
        except BaseException as error:
            if not self._writer.in_transaction:
                raise  # SQLite gave up the whole transaction (full, I/O error); `_commit` goes on from there.
            execute("ROLLBACK TO fact")
            outcome = _Outcome(error=_for_caller(error))
        execute("RELEASE fact")
        return outcome

    def _transact(self, function: Callable[[Transaction], _R]) -> _R:
        execute = self._writer.execute
        try:
            execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if _code(error) == sqlite3.SQLITE_BUSY:
                raise _Busy(str(error)) from error
            raise
        try:
            result = function(self._transaction)
            execute("COMMIT")
        finally:
            # After some errors (the disk is full) SQLite has rolled back by itself.
            if self._writer.in_transaction:
                execute("ROLLBACK")
        if self._reader is not self._writer:
            self._end_snapshot()
        return result


class _Log:
    """The write-ahead log as a file: flushed for all who wait, and folded into the database from time to time."""

    def __init__(self, path: Path | str, threads: Threads) -> None:
        self._threads = threads
        self._file = os.open(f"{path}-wal", os.O_RDWR)
        # SQLite makes the log's own name durable when it flushes the log, which from here on is our business.
        _sync_folder(Path(path).parent)
        self._folder = _connect(path)
        self._folder.execute(f"PRAGMA busy_timeout = {int(FOLD_BUSY_SECONDS * 1000)}")
        self._commits = 0
        self._waiting: list[tuple[_Call, _Outcome]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._folding: asyncio.Task[None] | None = None
        self._failure: str | None = None

    def check(self) -> None:
        """Raise `DatabaseError` if the log could not be flushed once."""
        if self._failure is not None:
            raise self._refusal()

    def grew(self, calls: list[tuple[_Call, _Outcome]]) -> None:
        """There was a commit. Settle these calls of it once they are durable."""
        if calls:
            # Whatever flush runs now may have begun before their commit: they take the next one.
            self._waiting += calls
            if self._flushing is None:
                self._flushing = asyncio.create_task(self._flush_waiting())
        self._commits += 1
        if self._commits % FOLD_LOOK_COMMITS == 0 and self._folding is None and self._failure is None:
            too_large = os.fstat(self._file).st_size >= FOLD_BYTES
            if too_large or self._commits >= FOLD_COMMITS:
                self._commits = 0
                self._folding = asyncio.create_task(self._fold(cut=too_large))

    def _refusal(self) -> DatabaseError:
        return DatabaseError(f"nothing is written since a flush failed; look at the disk and restart ({self._failure})")

    async def close(self) -> None:
        for task in (self._flushing, self._folding):
            if task is not None:
                await asyncio.wait([task])
        self._threads.close()
        self._folder.close()
        os.close(self._file)

    async def _flush_waiting(self) -> None:
        while self._waiting:
            calls, self._waiting = self._waiting, []
            if self._failure is None:
                try:
                    await self._threads.run(os.fdatasync, self._file)
                except OSError as error:
                    # The next flush would succeed: the kernel forgets what it could not write.
                    self._failure = str(error)
            for call, outcome in calls:
                call.settle(outcome if self._failure is None else _Outcome(error=self._refusal()))
        self._flushing = None

    async def _fold(self, *, cut: bool) -> None:
        """Copy into the database what it has not yet. `cut`: and begin the log anew, which under a steady load never
        happens by itself: nobody can write while its end is copied.
        """
        try:
            await self._threads.run(self._folder.execute, "PRAGMA wal_checkpoint(PASSIVE)")
            if cut:
                await self._threads.run(self._folder.execute, "PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # The log goes on growing, and the next time may be better; nothing is lost.
        finally:
            self._folding = None


def _connect(path: Path | str) -> sqlite3.Connection:
    try:
        return _configured(path)
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: {error}") from error


def _configured(path: Path | str) -> sqlite3.Connection:
    if str(path) != MEMORY and not Path(path).exists():
        # Before SQLite does it, so that nobody else can read it for a moment.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    _begin_log(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _begin_log(connection: sqlite3.Connection) -> None:
    """Switch the write-ahead log on. While another process opens or closes the file, SQLite refuses that at once,
    however long it was told to wait; to begin a transaction it waits.
    """
    for _ in range(OPEN_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY:
                raise
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        else:
            return
    raise DatabaseError("other processes keep opening and closing the database")


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _for_caller(error: BaseException) -> BaseException:
    if isinstance(error, sqlite3.Error):
        return _translated(error)
    # A future refuses StopIteration, which is what a `next` on nothing raises.
    return RuntimeError("a fact raised StopIteration") if isinstance(error, StopIteration) else error


def _translated(error: sqlite3.Error) -> DatabaseError:
    if isinstance(error, sqlite3.IntegrityError):
        return ConstraintViolated(str(error))
    return DatabaseFull(str(error)) if _code(error) == sqlite3.SQLITE_FULL else DatabaseError(str(error))


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
