"""The outbox: an event is there if its change is, and in the order of the changes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from homeport import events
from homeport.clock import SystemClock
from homeport.db.database import Transaction
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.events import SYSTEM, Event, Origin
from homeport.kinds import EVENTS

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
