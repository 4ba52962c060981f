"""The outbox, which is the audit log: who did what to which image, from where, and what the system did by itself.

Holds: an event is written in the transaction of the change that it tells of, so there is no change without its event
and no event without its change. Rows are only ever added here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from homeport.clock import Clock
from homeport.db.database import Transaction

#: Every kind of event, with the sentence that documents it (`docs/reference/events.md` is made from this).
KINDS: Final[dict[str, str]] = {
    "blob.pushed": "A blob was uploaded to the repository.",
    "blob.mounted": "A blob that another repository holds was linked into this one without being sent again.",
    "blob.deleted": "A blob was taken out of the repository.",
    "manifest.pushed": "A manifest or index that the repository did not hold was pushed.",
    "manifest.deleted": "A manifest or index was taken out of the repository, with every tag that pointed at it.",
    "tag.set": "A tag was created or points at another manifest now.",
    "tag.deleted": "A tag was deleted; the manifest that it pointed at stays until it is cleaned up.",
    "user.added": "A user was added.",
    "user.changed": "A user's password or rights were changed.",
    "user.removed": "A user was removed, with every token that belonged to it.",
    "token.created": "A token was created.",
    "token.revoked": "A token was revoked.",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who causes a change and from where: a name and an address as they stand in the audit log."""

    actor: str
    address: str = ""
    #: The request or run that it belongs to.
    run: str | None = None


#: What the program does by itself.
SYSTEM: Final = Origin("system")


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
) -> None:
    """Write an event into the transaction of its cause."""
    assert kind in KINDS, kind
    tx.run(
        "INSERT INTO events (happened_at, kind, actor, address, repository, digest, tag, reason, run)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (clock.now(), kind, origin.actor, origin.address, repository, digest, tag, reason, origin.run),
    )


def after(tx: Transaction, last_id: int, limit: int = 1_000) -> list[Event]:
    """At most `limit` events that come after `last_id`, the oldest first."""
    rows = tx.all(
        "SELECT id, happened_at, kind, actor, address, repository, digest, tag, reason, run"
        " FROM events WHERE id > ? ORDER BY id LIMIT ?",
        (last_id, limit),
    )
    return [Event(*row) for row in rows]
