"""The real database file on a disk that forgets: what `write` returned is there after a power cut.

SQLite syncs its log itself where it copies it into the database; between those times only our own flushes make it
durable. Here threads run on the simulated loop, the log as it was at the last sync is kept, and a power cut leaves
that and any part of what was written after it.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from homeport import events
from homeport.clock import Threads
from homeport.db import sqlite
from homeport.db.database import Transaction
from homeport.db.sqlite import SqliteDatabase
from homeport.events import Origin
from homeport.testing.simulation import ProcessDied, SimulatedClock, run

P = ParamSpec("P")
T = TypeVar("T")

PAGE_BYTES = 4096


class Disk:
    """A folder with a database, of which the log survives as far as it was synced."""

    def __init__(self, folder: Path, clock: SimulatedClock) -> None:
        self.database = folder / "homeport.db"
        self._log = folder / "homeport.db-wal"
        self._clock = clock
        self._synced = b""

    def synced(self) -> None:
        self._synced = self._log.read_bytes()

    def power_cut(self, target: Path) -> Path:
        """What is left of the database, in another folder."""
        target.mkdir()
        shutil.copy(self.database, target / "homeport.db")
        (target / "homeport.db-wal").write_bytes(self._left_of_the_log())
        return target / "homeport.db"

    def _left_of_the_log(self) -> bytes:
        written = self._log.read_bytes()
        if written[:32] != self._synced[:32]:
            # It was begun anew, and SQLite syncs the header before the rest.
            length = 32 + self._clock.below(max(1, len(written) - 31))
            return written[:length] + self._synced[length:]
        left = bytearray(self._synced)
        for start in range(0, len(written), PAGE_BYTES):
            if self._clock.random() < 0.5:
                left[start : start + PAGE_BYTES] = written[start : start + PAGE_BYTES]
        return bytes(left)


class WatchedThreads(Threads):
    """Threads of the database, whose jobs all sync the log: our flush, and SQLite's copying of it."""

    def __init__(self, threads: Threads, disk: Disk, forgotten: object) -> None:
        self._threads = threads
        self._disk = disk
        self._forgotten = forgotten

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def job() -> T:
            result = function(*args, **kwargs)
            if function is not self._forgotten:
                self._disk.synced()
            return result

        return await self._threads.run(job)

    def close(self) -> None:
        self._threads.close()


class WatchedClock(SimulatedClock):
    """A clock whose threads are watched; `forgotten` is a job that syncs nothing."""

    def __init__(self, seed: int, folder: Path, forgotten: object) -> None:
        super().__init__(seed)
        self.disk = Disk(folder, self)
        self._forgotten = forgotten

    def threads(self, name: str, count: int) -> Threads:
        return WatchedThreads(super().threads(name, count), self.disk, self._forgotten)


def note(tx: Transaction, clock: SimulatedClock, number: int) -> None:
    events.append(tx, clock, "user.added", Origin(str(number)))


def noted(tx: Transaction) -> list[int]:
    return [int(event.actor) for event in events.after(tx, events.START)]


def lose_power(seed: int, folder: Path, forgotten: object = None) -> tuple[set[int], list[int], list[int]]:
    """Write until the process dies: what was answered, what was committed, and what is left."""
    clock = WatchedClock(seed, folder, forgotten)
    database = SqliteDatabase(clock.disk.database, clock)
    clock.disk.synced()
    answered: set[int] = set()

    async def writer(first: int) -> None:
        for number in range(first, first + 100):
            if clock.random() < 0.3:
                await database.jot(note, clock, number)
            else:
                await database.write(note, clock, number)
                answered.add(number)
            await clock.sleep(clock.random() * 0.1)

    async def main() -> None:
        await asyncio.gather(*(writer(first) for first in range(0, 600, 100)))

    steps = int(4_000 * clock.random())
    with contextlib.suppress(ProcessDied):
        run(clock, main, lambda so_far: so_far >= steps)
    left = clock.disk.power_cut(folder / "left")
    committed, after = read(database), SqliteDatabase(left, SimulatedClock(0))
    try:
        return answered, committed, read(after)
    finally:
        abandon(database)
        abandon(after)


def read(database: SqliteDatabase) -> list[int]:
    return run(SimulatedClock(0), lambda: database.read(noted))


def abandon(database: SqliteDatabase) -> None:
    """Close it without waiting for what it had begun, which will never end."""
    assert database._log is not None
    os.close(database._log._file)
    for connection in (database._log._folder, database._reader, database._writer):
        connection.close()


@pytest.fixture(autouse=True)
def _fold_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "FOLD_LOOK_COMMITS", 8)
    monkeypatch.setattr(sqlite, "FOLD_COMMITS", 64)
    monkeypatch.setattr(sqlite, "FOLD_BYTES", 256 * 1024)


@pytest.mark.parametrize("seed", range(40))
def test_what_was_answered_survives_a_power_cut(seed: int, tmp_path: Path) -> None:
    answered, committed, left = lose_power(seed, tmp_path)
    assert answered <= set(left)
    assert left == committed[: len(left)]


def test_a_flush_that_flushes_nothing_is_found_out(tmp_path: Path) -> None:
    lost = 0
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        answered, _, left = lose_power(seed, folder, forgotten=os.fdatasync)
        lost += bool(answered - set(left))
    assert lost > 3
