"""The outbox: an event is there if its change is, and in the order of the changes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from homeport import events
from homeport.clock import SystemClock
from homeport.db.database import Transaction
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.events import SYSTEM, Event, Origin, Position
from homeport.kinds import EVENTS, JOBS

ADA = Origin("ada", "192.0.2.1", "request-1")


@pytest.fixture
async def database() -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(MEMORY, SystemClock())
    yield database
    await database.close()


def append(tx: Transaction, /, kind: str = "tag.set", origin: Origin = ADA, **subject: Any) -> None:
    events.append(tx, SystemClock(), kind, origin, **subject)


async def test_what_is_appended_is_found(database: SqliteDatabase) -> None:
    await database.write(append, repository="a", digest="sha256:x", tag="latest", reason="was sha256:y")
    (found,) = await database.read(events.after, events.START)
    assert abs(found.happened_at - SystemClock().now()) < 5
    assert found == Event(
        found.id,
        found.happened_at,
        "tag.set",
        "ada",
        "192.0.2.1",
        "a",
        "sha256:x",
        "latest",
        "was sha256:y",
        "request-1",
        None,
        found.id,
    )


async def test_in_order_and_from_where_one_was(database: SqliteDatabase) -> None:
    for number in range(5):
        await database.write(append, reason=str(number))
    first = await database.read(events.after, events.START, 2)
    rest = await database.read(events.after, first[-1].position)
    assert [event.reason for event in first + rest] == ["0", "1", "2", "3", "4"]
    assert await database.read(events.after, rest[-1].position) == []


class _Early:
    """A transaction that sees rows of others that are still open at a number: as PostgreSQL has them."""

    def __init__(self, tx: Transaction, horizon: int) -> None:
        self._tx = tx
        self._horizon = horizon

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def horizon(self) -> int:
        return self._horizon


async def test_nobody_reads_past_a_transaction_that_is_open(database: SqliteDatabase) -> None:
    for number in range(1, 6):
        await database.write(append, reason=str(number))

    def early(tx: Transaction, horizon: int) -> tuple[list[str | None], list[str | None], Position]:
        seen = cast("Transaction", _Early(tx, horizon))
        followed = [event.reason for event in events.after(seen, events.START)]
        return followed, [event.reason for event in events.latest(seen, 2)], events.end(seen)

    assert await database.read(early, 3) == (["1", "2"], ["1", "2"], Position(2, 2))
    assert await database.read(early, 1) == ([], [], events.START)
    assert (await database.read(early, 9))[0] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    "text", ["", "1", "-", "1-", "a-b", "1-2-3", "1.5-2", "-1-2", "1" * 19 + "-1", "\u0661-\u0662"]
)
def test_a_position_is_what_an_answer_gave(text: str) -> None:
    assert Position.parse(str(Position(7, 9))) == (7, 9)
    with pytest.raises(ValueError, match="a position in the log is"):
        Position.parse(text)


def at(tx: Transaction, moment: float) -> None:
    tx.run("INSERT INTO events (happened_at, kind, actor, address) VALUES (?, 'tag.set', 'ada', '')", (moment,))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 33])
async def test_where_a_moment_is_in_the_log(database: SqliteDatabase, count: int) -> None:
    for number in range(count):
        await database.write(at, number * 10.0)
    for moment in (-5.0, 0.0, 5.0, 10.0, 95.0, 100.0, 1e9):
        position = await database.read(events.since, moment)
        found = await database.read(events.after, position)
        assert [event.happened_at for event in found] == [n * 10.0 for n in range(count) if n * 10.0 >= moment]


async def test_the_oldest_are_forgotten_and_the_newest_never_is(database: SqliteDatabase) -> None:
    for moment in range(10):
        await database.write(at, float(moment))
    assert await database.write(events.prune, 5.0, 3) == 3
    assert await database.write(events.prune, 5.0, 3) == 2
    assert await database.write(events.prune, 5.0, 3) == 0
    assert [event.happened_at for event in await database.read(events.after, events.START)] == [5, 6, 7, 8, 9]
    assert await database.write(events.prune, 1e9) == 4
    (last,) = await database.read(events.latest, 5)
    await database.write(append)
    assert (await database.read(events.latest, 1))[0].id == last.id + 1
    assert (await database.read(events.get, last.id)) == last
    assert await database.read(events.get, 1) is None


async def test_what_happened_while_the_clock_was_wrong_takes_nothing_younger_with_it(database: SqliteDatabase) -> None:
    for moment in [100, 101, 102, 3, 3, 3, 103, 104]:
        await database.write(at, float(moment))
    assert await database.write(events.prune, 50.0) == 3
    assert [event.happened_at for event in await database.read(events.latest, 9)] == [100, 101, 102, 103, 104]


async def test_a_detail_is_json_and_bounded(database: SqliteDatabase) -> None:
    detail = {"outcome": "partial", "counts": {"copied": 3}, "failures": [{"what": "ä", "why": "\u2028"}]}
    await database.write(append, "housekeeping.finished", detail=detail)
    (found,) = await database.read(events.latest, 1)
    assert found.detail == detail
    assert events.told(found)["detail"] == detail
    with pytest.raises(AssertionError):
        await database.write(append, "housekeeping.finished", detail={"text": "x" * 70_000})


async def test_without_its_change_there_is_no_event(database: SqliteDatabase) -> None:
    def fact(tx: Transaction) -> None:
        append(tx)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fact)
    assert await database.read(events.after, events.START) == []


async def test_a_kind_that_nobody_documented_is_refused(database: SqliteDatabase) -> None:
    with pytest.raises(AssertionError):
        await database.write(append, "tag.sett")


async def test_what_the_program_does_by_itself(database: SqliteDatabase) -> None:
    await database.write(append, "blob.deleted", SYSTEM)
    (found,) = await database.read(events.after, events.START)
    assert (found.actor, found.address, found.run) == ("system", "", None)


def test_every_kind_has_its_sentence() -> None:
    for kind, sentence in EVENTS.items():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", kind)
        assert re.fullmatch(r"[A-Z].+\.", sentence)


def test_every_run_that_ends_has_its_event() -> None:
    # A worker could not end a job whose event nobody listed.
    assert {f"{kind}.finished" for kind in JOBS} <= set(EVENTS)
