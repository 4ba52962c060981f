"""Deliveries: one event for one target, from when it was found in the audit log until it was taken or given up.

Owns `notify_positions` and `deliveries`; facts only. Holds:
- A target's position and the deliveries that it passed are written in one transaction, so no event is lost between
  them, and none is delivered twice because of them.
- A new target begins at the end of the log: it is not told of history.
- Deliveries of one target wait in the order of the log; the first of them is the only one that is tried.
- `message_id` is made from the event and the target: the same event has the same one, whatever was forgotten between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from homeport import events
from homeport.clock import Clock, rfc3339
from homeport.db.database import Transaction
from homeport.events import SYSTEM, Event, Origin, Position
from homeport.notify.errors import DeliveryError
from homeport.notify.sent import Sent

State: TypeAlias = Literal["waiting", "sent", "given-up"]

#: The kind of the event that a sample is.
TESTED: Final = "notify.tested"

_ID_MAX = 2**63 - 1

_COLUMNS = "id, target, event_id, kind, message_id, state, happened_at, due_at, attempts, tried_at, status, answer"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one target. Times are seconds since 1970 UTC."""

    id: int
    target: str
    event_id: int
    kind: str
    message_id: str
    state: State
    #: When the event did.
    happened_at: float
    #: Before then it is not tried.
    due_at: float
    attempts: int
    tried_at: float | None
    status: int | None
    answer: str | None

    def told(self) -> dict[str, Any]:
        """The delivery as JSON has it."""
        return {
            "id": self.id,
            "target": self.target,
            "event": self.event_id,
            "kind": self.kind,
            "message": self.message_id,
            "state": self.state,
            "time": rfc3339(self.happened_at),
            "due": rfc3339(self.due_at) if self.state == "waiting" else None,
            "attempts": self.attempts,
            "tried": rfc3339(self.tried_at),
            "status": self.status,
            "answer": self.answer,
        }


class Subject(NamedTuple):
    """What the repository still holds of what an event is about."""

    media_type: str
    size: int


# --- targets ----------------------------------------------------------------------------------------------------


def sync(tx: Transaction, targets: Collection[str]) -> None:
    """Let these be the targets: new ones begin at the end of the log, of others nothing waits any more."""
    known = {name for (name,) in tx.all("SELECT target FROM notify_positions")}
    for name in sorted(known.difference(targets)):
        tx.run("DELETE FROM notify_positions WHERE target = ?", (name,))
        tx.run("DELETE FROM deliveries WHERE target = ? AND state = 'waiting'", (name,))
    end = events.end(tx)
    for name in sorted(set(targets) - known):
        tx.run("INSERT INTO notify_positions (target, transaction_id, event_id) VALUES (?, ?, ?)", (name, *end))


def tested(tx: Transaction, clock: Clock, origin: Origin, name: str, outcome: Sent) -> None:
    """Tell that somebody sent a sample to the target, and what came of it."""
    events.append(tx, clock, TESTED, origin, reason=name, detail={"target": name, **outcome.told()})


def _position(tx: Transaction, target: str) -> Position | None:
    """How far in the log the target is; None if it is no target."""
    row = tx.one("SELECT transaction_id, event_id FROM notify_positions WHERE target = ?", (target,))
    return Position(*row) if row else None


def ahead(tx: Transaction, target: str, limit: int) -> tuple[Position, list[Event]] | None:
    """Where the target is, and at most `limit` events behind that; None if it is no target."""
    at = _position(tx, target)
    return None if at is None else (at, events.after(tx, at, limit))


def fan_out(tx: Transaction, target: str, at: Position, to: Position, found: Sequence[Event]) -> bool:
    """Move the target from `at` to `to`, with a delivery for each event of `found`. False if it was elsewhere."""
    moved = tx.run(
        "UPDATE notify_positions SET transaction_id = ?, event_id = ?"
        " WHERE target = ? AND transaction_id = ? AND event_id = ?",
        (*to, target, *at),
    )
    if not moved:
        return False
    for event in found:
        tx.run(
            "INSERT INTO deliveries (target, event_id, kind, message_id, state, happened_at, due_at, attempts)"
            " VALUES (?, ?, ?, ?, 'waiting', ?, ?, 0)",
            (target, event.id, event.kind, message_id(target, event), event.happened_at, event.happened_at),
        )
    return True


def message_id(target: str, event: Event) -> str:
    """What names this event for this target, at every try."""
    return "msg_" + hashlib.sha256(f"{target} {event.id} {event.happened_at!r}".encode()).hexdigest()[:32]


# --- one delivery -----------------------------------------------------------------------------------------------


def head(tx: Transaction, target: str) -> Delivery | None:
    """The delivery whose turn it is, due or not."""
    row = tx.one(
        f"SELECT {_COLUMNS} FROM deliveries WHERE target = ? AND state = 'waiting' ORDER BY id LIMIT 1",  # noqa: S608
        (target,),
    )
    return Delivery(*row) if row else None


def get(tx: Transaction, delivery_id: int) -> Delivery | None:
    """The delivery of this id."""
    row = tx.one(f"SELECT {_COLUMNS} FROM deliveries WHERE id = ?", (delivery_id,))  # noqa: S608
    return Delivery(*row) if row else None


def subject(tx: Transaction, event: Event) -> Subject | None:
    """Media type and size of what the event is about, where the repository still holds it."""
    if event.repository is None or event.digest is None:
        return None
    if event.kind.startswith("blob."):
        blob = tx.one(
            "SELECT size FROM held_blobs WHERE repository = ? AND digest = ?", (event.repository, event.digest)
        )
        return Subject("application/octet-stream", blob[0]) if blob else None
    manifest = tx.one(
        "SELECT media_type, length(data) FROM held_manifests WHERE repository = ? AND digest = ?",
        (event.repository, event.digest),
    )
    return Subject(*manifest) if manifest else None


def hasten(tx: Transaction, clock: Clock, target: str) -> None:
    """Let the target be tried now: what made it fail may be mended."""
    now = clock.now()
    tx.run("UPDATE deliveries SET due_at = ? WHERE target = ? AND state = 'waiting' AND due_at > ?", (now, target, now))


def sent(tx: Transaction, clock: Clock, delivery: Delivery, outcome: Sent) -> None:
    """The receiver took it."""
    _end(tx, clock, delivery, outcome, "sent")


def failed(tx: Transaction, clock: Clock, delivery: Delivery, outcome: Sent, due_at: float) -> None:
    """The receiver did not take it; try again at `due_at`."""
    tx.run(
        "UPDATE deliveries SET attempts = attempts + 1, tried_at = ?, status = ?, answer = ?, due_at = ?"
        " WHERE id = ? AND state = 'waiting'",
        (clock.now(), outcome.status, outcome.answer, due_at, delivery.id),
    )


def give_up(tx: Transaction, clock: Clock, delivery: Delivery, outcome: Sent) -> None:
    """Never try again, and tell that; but not where nobody could be told of another given up delivery."""
    if not _end(tx, clock, delivery, outcome, "given-up") or delivery.kind == "delivery.given_up":
        return
    events.append(
        tx,
        clock,
        "delivery.given_up",
        SYSTEM,
        reason=f"{delivery.target}: {outcome.words}",
        detail={
            "target": delivery.target,
            "delivery": delivery.id,
            "event": delivery.event_id,
            "kind": delivery.kind,
            "status": outcome.status,
        },
    )


def _end(tx: Transaction, clock: Clock, delivery: Delivery, outcome: Sent, state: State) -> int:
    return tx.run(
        "UPDATE deliveries SET state = ?, attempts = attempts + 1, tried_at = ?, status = ?, answer = ?"
        " WHERE id = ? AND state = 'waiting'",
        (state, clock.now(), outcome.status, outcome.answer, delivery.id),
    )


# --- all of them ------------------------------------------------------------------------------------------------


def listed(
    tx: Transaction,
    *,
    target: str | None = None,
    state: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Delivery]:
    """At most `limit` deliveries, the newest first; those before the id `before`."""
    page = "id < ? ORDER BY id DESC LIMIT ?"
    end = _ID_MAX if before is None else before
    if target is None and state is None:
        rows = tx.all(f"SELECT {_COLUMNS} FROM deliveries WHERE {page}", (end, limit))  # noqa: S608
        return [Delivery(*row) for row in rows]
    # By target and state they are in the order of the index, so only those are read that may be among the newest.
    found: list[Delivery] = []
    for name in _names(tx) if target is None else [target]:
        for each in get_args(State) if state is None else [state]:
            rows = tx.all(
                f"SELECT {_COLUMNS} FROM deliveries WHERE target = ? AND state = ? AND {page}",  # noqa: S608
                (name, each, end, limit),
            )
            found += [Delivery(*row) for row in rows]
    return sorted(found, key=lambda delivery: delivery.id, reverse=True)[:limit]


def replay(tx: Transaction, clock: Clock, delivery_id: int, origin: Origin) -> Delivery:
    """Let a delivery that was sent or given up wait again, with the same message id. Raises `DeliveryError`."""
    delivery = get(tx, delivery_id)
    if delivery is None:
        raise DeliveryError(f"there is no delivery {delivery_id}: `homeport notify deliveries` lists them")
    if delivery.state == "waiting":
        raise DeliveryError(f"delivery {delivery_id} is waiting already")
    if _position(tx, delivery.target) is None:
        raise DeliveryError(f"delivery {delivery_id} was for '{delivery.target}', which is no target any more")
    if events.get(tx, delivery.event_id) is None:
        raise DeliveryError(f"what delivery {delivery_id} told is not in the audit log any more")
    tx.run("UPDATE deliveries SET state = 'waiting', attempts = 0, due_at = ? WHERE id = ?", (clock.now(), delivery_id))
    events.append(
        tx,
        clock,
        "delivery.replayed",
        origin,
        reason=f"delivery {delivery_id} of {delivery.kind} to {delivery.target}",
    )
    again = get(tx, delivery_id)
    assert again is not None
    return again


def prune(tx: Transaction, before: float, limit: int = 1_000) -> int:
    """Forget the oldest deliveries that wait no more, at most `limit`, of events before `before`; how many."""
    forgotten = 0
    for target in _names(tx):
        for state in ("sent", "given-up"):
            rows = tx.all(
                "SELECT id, happened_at FROM deliveries WHERE target = ? AND state = ? ORDER BY id LIMIT ?",
                (target, state, limit - forgotten),
            )
            for delivery_id, happened_at in rows:
                if happened_at < before:
                    forgotten += tx.run("DELETE FROM deliveries WHERE id = ?", (delivery_id,))
    return forgotten


def _names(tx: Transaction) -> Iterator[str]:
    """Every target that has a delivery, also those that are none any more; each is one step into the index."""
    name = ""
    while (row := tx.one("SELECT min(target) FROM deliveries WHERE target > ?", (name,))) and row[0] is not None:
        name = row[0]
        yield name
