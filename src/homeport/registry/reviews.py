"""What may have become superfluous, and when somebody has to look. Owns the table `reviews`.

Holds: whatever takes a reference away asks for a look in its own transaction, so nothing is forgotten by a crash. A row
decides nothing: whoever looks finds out anew whether the thing may go. Asking again moves the time, so a look that ends
just now cannot swallow what happened just now.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeport.db.database import Transaction
from homeport.oci.digest import Digest
from homeport.registry.registry import Registry

#: Instead of a repository's id: the blob itself, not a link to it.
BLOB = 0

#: The pause after a look that could not be finished; twice as long after each one that follows, up to the second.
RETRY_SECONDS = 60.0
RETRY_SECONDS_MAX = 86_400.0


@dataclass(frozen=True, slots=True)
class Review:
    """Something to look at."""

    repository_id: int
    digest: Digest
    due_at: float
    failures: int = 0


# --- facts ------------------------------------------------------------------------------------------------------


def ask(tx: Transaction, registry: Registry, repository_id: int, digest: Digest, due_at: float) -> None:
    """Have the link (or the blob) looked at, not before `due_at`; a little later, so that not all comes at once."""
    look(tx, repository_id, digest, due_at + registry.clock.random() * registry.rules.jitter_seconds)


def look(tx: Transaction, repository_id: int, digest: Digest, due_at: float) -> None:
    """Have the link (or the blob) looked at at this time, whatever time it had."""
    tx.run(
        "INSERT INTO reviews (repository_id, digest, due_at, failures) VALUES (?, ?, ?, 0)"
        " ON CONFLICT (repository_id, digest) DO UPDATE SET due_at = excluded.due_at, failures = 0",
        (repository_id, digest, due_at),
    )


def look_at_named(tx: Transaction, repository_id: int, manifest: Digest, due_at: float) -> None:
    """Have every link looked at that the manifest names: it was swept, so their own grace has long been over."""
    tx.run(
        "INSERT INTO reviews (repository_id, digest, due_at, failures)"
        " SELECT DISTINCT repository_id, digest, ?, 0 FROM named_links WHERE repository_id = ? AND manifest = ?"
        " ON CONFLICT (repository_id, digest) DO UPDATE SET due_at = excluded.due_at, failures = 0",
        (due_at, repository_id, manifest),
    )


def due(tx: Transaction, now: float, limit: int) -> list[Review]:
    """At most `limit` that are due, the longest waiting first."""
    return _reviews(
        tx,
        "SELECT repository_id, digest, due_at, failures FROM reviews WHERE due_at <= ? ORDER BY due_at LIMIT ?",
        now,
        limit,
    )


def after(tx: Transaction, repository_id: int, digest: str, limit: int) -> list[Review]:
    """At most `limit` behind this one, whether they are due or not: a way through all of them."""
    return _reviews(
        tx,
        "SELECT repository_id, digest, due_at, failures FROM reviews WHERE (repository_id, digest) > (?, ?)"
        " ORDER BY repository_id, digest LIMIT ?",
        repository_id,
        digest,
        limit,
    )


def find(tx: Transaction, repository_id: int, digest: Digest) -> Review | None:
    """The look that is to come, if there is one."""
    found = _reviews(
        tx,
        "SELECT repository_id, digest, due_at, failures FROM reviews WHERE repository_id = ? AND digest = ?",
        repository_id,
        digest,
    )
    return found[0] if found else None


def drop(tx: Transaction, repository_id: int, digest: Digest) -> None:
    """Nothing is to be looked at: it is gone, or something keeps it, whose end will ask again."""
    tx.run("DELETE FROM reviews WHERE repository_id = ? AND digest = ?", (repository_id, digest))


def fail(tx: Transaction, registry: Registry, review: Review) -> None:
    """A look could not be finished: the next one is later each time, so one broken thing keeps nobody waiting."""
    pause = min(RETRY_SECONDS * 2 ** min(review.failures, 16), RETRY_SECONDS_MAX) * (1 + registry.clock.random() / 3)
    tx.run(
        "UPDATE reviews SET due_at = ?, failures = failures + 1 WHERE repository_id = ? AND digest = ?",
        (registry.clock.now() + pause, review.repository_id, review.digest),
    )


def _reviews(tx: Transaction, sql: str, *parameters: str | float) -> list[Review]:
    return [Review(row[0], Digest(row[1]), row[2], row[3]) for row in tx.all(sql, parameters)]
