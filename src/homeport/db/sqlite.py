"""Facts in one SQLite file, for everybody who has one machine.

Holds:
- What `write` returned survives a power cut: write-ahead log with `synchronous=FULL`.
- One transaction writes at a time. Facts that wait while a commit runs share the next one, each in a savepoint of its
  own, so the disk is asked to flush once for all of them.
- Reads run on a connection of their own, on the event loop: a point read takes microseconds, a thread would take ten
  times that. They see everything that was committed before they were asked for, also by another process.
- `:memory:` is the same code on one connection and no thread, for tests and the simulation.
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

#: How many facts may share one commit: bounds how long the first of them waits.
BATCH_MAX = 256
#: How long to wait for another process that is writing (the command line beside a running server).
BUSY_SECONDS = 10.0
#: What the schema files call by these names.
WORDS = {"IDENTITY": "INTEGER PRIMARY KEY AUTOINCREMENT", "BYTES": "BLOB", "CLUSTERED": " WITHOUT ROWID"}

MEMORY = ":memory:"

_R = TypeVar("_R")


@dataclass(slots=True)
class _Call:
    fact: Callable[[Transaction], Any]
    durable: bool
    future: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _Outcome(NamedTuple):
    value: Any = None
    error: BaseException | None = None


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


class SqliteDatabase(Database):
    """The `Database` contract on a SQLite file."""

    def __init__(self, path: Path | str, clock: Clock) -> None:
        """Open, and bring the schema up to date. Blocks; called once, before anything is served."""
        self._writer = _connect(path)
        self._transaction = _SqliteTransaction(self._writer)
        in_memory = str(path) == MEMORY
        self._reader = self._writer if in_memory else _connect(path)
        self._reading = _SqliteTransaction(self._reader)
        self._threads: Threads | None = None if in_memory else clock.threads("database", 1)
        self._ending: asyncio.Handle | None = None
        self._durable = True
        self._waiting: list[_Call] = []
        self._draining: asyncio.Task[None] | None = None
        migrate(self._transact, steps(WORDS))
        if not in_memory:
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
        result: T = await self._submit(_Call(lambda tx: fact(tx, *args, **kwargs), durable=True))
        return result

    async def jot(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self._submit(_Call(lambda tx: fact(tx, *args, **kwargs), durable=False))
        return result

    async def close(self) -> None:
        while self._draining is not None:
            await asyncio.shield(self._draining)
        if self._ending is not None:
            self._ending.cancel()
        if self._threads is not None:
            self._threads.close()
        self._reader.close()
        self._writer.close()

    def _begin_snapshot(self) -> None:
        """Begin a snapshot that every read of this turn of the event loop shares.

        It is ended by a callback that is queued now. So whatever is queued later (a request that arrives, a task that a
        finished write wakes) runs after its end and sees a new one, and no read misses what was committed before it was
        asked for. Beginning and ending costs as much as a point read, which a busy server saves this way.
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
        self._waiting.append(call)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await call.future

    async def _drain(self) -> None:
        """Commit what waits, batch after batch, until nothing does."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                try:
                    if self._threads is None:
                        outcomes = self._commit(batch)
                    else:
                        outcomes = await self._threads.run(self._commit, batch)
                except BaseException as error:  # noqa: BLE001 (whoever waits must not wait for ever)
                    outcomes = [_Outcome(error=DatabaseError(f"the database is closing: {error!r}"))] * len(batch)
                for call, outcome in zip(batch, outcomes, strict=True):
                    if call.future.done():
                        continue  # Its caller went away; the fact stays.
                    if outcome.error is not None:
                        call.future.set_exception(outcome.error)
                    else:
                        call.future.set_result(outcome.value)
        finally:
            self._draining = None

    def _commit(self, batch: list[_Call]) -> list[_Outcome]:
        """Run the facts of `batch` in one transaction. In the writer's thread."""
        try:
            return self._attempt(batch)
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            busy = _code(error) == sqlite3.SQLITE_BUSY
            if busy or len(batch) == 1:
                # Busy for all that time: another process is writing, and it is nobody's fault here.
                return [_Outcome(error=_translated(error)) for _ in batch]
            # One of them may be to blame (the disk is full and it is large): each gets a commit of its own.
            return [outcome for call in batch for outcome in self._commit([call])]

    def _attempt(self, batch: list[_Call]) -> list[_Outcome]:
        execute = self._writer.execute
        self._synchronize(any(call.durable for call in batch))
        execute("BEGIN IMMEDIATE")
        outcomes = []
        for call in batch:
            execute("SAVEPOINT fact")
            try:
                outcomes.append(_Outcome(call.fact(self._transaction)))
            except BaseException as error:
                if not self._writer.in_transaction:
                    raise  # SQLite gave up the whole transaction (full, I/O error); `_commit` goes on from there.
                execute("ROLLBACK TO fact")
                outcomes.append(_Outcome(error=_for_caller(error)))
            execute("RELEASE fact")
        execute("COMMIT")
        return outcomes

    def _synchronize(self, durable: bool) -> None:
        """Whether the commits from here on wait for the disk. One that does makes those before it durable as well."""
        if durable != self._durable:
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    def _transact(self, function: Callable[[Transaction], _R]) -> _R:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            result = function(self._transaction)
            self._writer.execute("COMMIT")
            return result
        finally:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")


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
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -16384")  # KiB
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


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
