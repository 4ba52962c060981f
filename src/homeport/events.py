"""The outbox, which is the audit log: who did what to which image, from where, and what the system did by itself.

Holds: an event is written in the transaction of the change that it tells of, so there is no change without its event
and no event without its change. Rows are only added; after `events.keep` the oldest go. Who follows the log sees
every event once, in one order that never changes, whatever transactions are open meanwhile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from homeport.clock import Clock, rfc3339
from homeport.db.database import Row, Transaction
from homeport.kinds import EVENTS

#: How long the detail of an event may be, as JSON.
DETAIL_CHARACTERS_MAX = 64 * 1024

_POSITION = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_COLUMNS = "id, happened_at, kind, actor, address, repository, digest, tag, reason, run, detail, transaction_id"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who causes a change and from where: a name and an address as they stand in the audit log."""

    actor: str
    address: str = ""
    #: The request, or `job-N` for what a job did.
    run: str | None = None


#: What the program does by itself.
SYSTEM: Final = Origin("system")


class Position(NamedTuple):
    """A place in the log: behind this event. In this order events are followed; ids alone have no such order."""

    transaction: int
    id: int

    def __str__(self) -> str:
        return f"{self.transaction}-{self.id}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """What `str` made. Raises `ValueError`."""
        found = _POSITION.fullmatch(text)
        if found is None:
            raise ValueError("a position in the log is two numbers with a dash between them, as an answer gave it")
        return cls(int(found[1]), int(found[2]))


#: Before the first event.
START: Final = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the audit log."""

    id: int
    happened_at: float
    kind: str
    actor: str
    address: str
    repository: str | None
    digest: str | None
    tag: str | None
    reason: str | None
    run: str | None
    #: What a run has to tell: its summary. JSON values only.
    detail: Mapping[str, Any] | None = None
    transaction: int = 0

    @property
    def position(self) -> Position:
        """Where it is in the log."""
        return Position(self.transaction, self.id)


def append(
    tx: Transaction,
    clock: Clock,
    kind: str,
    origin: Origin,
    *,
    repository: str | None = None,
    digest: str | None = None,
    tag: str | None = None,
    reason: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write an event into the transaction of its cause. No secret may be in it: it is kept and sent to others."""
    assert kind in EVENTS, kind
    told = None if detail is None else json.dumps(detail)
    assert told is None or len(told) <= DETAIL_CHARACTERS_MAX, kind
    tx.run(
        "INSERT INTO events (happened_at, kind, actor, address, repository, digest, tag, reason, run, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (clock.now(), kind, origin.actor, origin.address, repository, digest, tag, reason, origin.run, told),
    )


def after(tx: Transaction, position: Position, limit: int = 1_000) -> list[Event]:
    """At most `limit` events behind `position`, in the order of the log.

    Stops before what a transaction that is still open may have written: a later call gives that, none is stepped over.
    """
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM event_log WHERE (transaction_id, id) > (?, ?) AND transaction_id < ?"  # noqa: S608
        " ORDER BY transaction_id, id LIMIT ?",
        (position.transaction, position.id, tx.horizon(), limit),
    )
    return list(map(_event, rows))


def before(tx: Transaction, position: Position, limit: int = 1_000) -> list[Event]:
    """The last `limit` events before `position`, in the order of the log: the way back from `end`."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM event_log WHERE (transaction_id, id) < (?, ?)"  # noqa: S608
        " ORDER BY transaction_id DESC, id DESC LIMIT ?",
        (position.transaction, position.id, limit),
    )
    return list(map(_event, reversed(rows)))


def get(tx: Transaction, event_id: int) -> Event | None:
    """The event of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM event_log WHERE id = ?", (event_id,))  # noqa: S608
    return _event(row) if row else None


def latest(tx: Transaction, count: int) -> list[Event]:
    """The newest `count` events, in the order of the log."""
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM event_log WHERE transaction_id < ?"  # noqa: S608
        " ORDER BY transaction_id DESC, id DESC LIMIT ?",
        (tx.horizon(), count),
    )
    return list(map(_event, reversed(rows)))


def end(tx: Transaction) -> Position:
    """Behind the newest event: what `after` gives from here on happened later."""
    found = latest(tx, 1)
    return found[0].position if found else START


def since(tx: Transaction, moment: float) -> Position:
    """Just before the first event that happened at `moment` or later.

    Found by halving, since an index would cost every push: ids and times grow together, unless a clock was set back.
    """
    low, high = _bounds(tx)
    before = START
    while low <= high:
        middle = (low + high) // 2
        row = tx.one(
            "SELECT id, happened_at, transaction_id FROM event_log WHERE id >= ? AND id <= ? ORDER BY id LIMIT 1",
            (middle, high),
        )
        if row is None or row[1] >= moment:
            high = middle - 1
        else:
            before, low = Position(row[2], row[0]), row[0] + 1
    return before


def prune(tx: Transaction, before: float, limit: int = 1_000) -> int:
    """Forget the oldest events, at most `limit`, that happened before `before`; how many those were.

    The newest event always stays: its id must not be given again.
    """
    first, newest = _bounds(tx)
    last = min(since(tx, before).id, newest - 1)
    # Each one's own time is looked at: a machine that began with its clock in 1970 left younger ones before them.
    return tx.run(
        "DELETE FROM events WHERE id IN"
        " (SELECT id FROM events WHERE id >= ? AND id <= ? AND happened_at < ? ORDER BY id LIMIT ?)",
        (first, last, before, limit),
    )


def _bounds(tx: Transaction) -> tuple[int, int]:
    row = tx.one("SELECT (SELECT min(id) FROM events), (SELECT max(id) FROM events)")
    return (row[0], row[1]) if row is not None and row[0] is not None else (0, -1)


def told(event: Event) -> dict[str, Any]:
    """The event as JSON has it, in answers and payloads."""
    return {
        "id": event.id,
        "position": str(event.position),
        "time": rfc3339(event.happened_at),
        "kind": event.kind,
        "actor": event.actor,
        "address": event.address,
        "repository": event.repository,
        "digest": event.digest,
        "tag": event.tag,
        "reason": event.reason,
        "run": event.run,
        "detail": event.detail,
    }


def _event(row: Row) -> Event:
    event = Event(*row)
    return event if event.detail is None else replace(event, detail=json.loads(row[10]))
