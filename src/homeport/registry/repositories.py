"""Repositories: the names under which images lie. Owns the table `repositories`.

Holds: a repository has a row as long as something is linked in it; it comes with the first link and needs no creating.
"""

from __future__ import annotations

from dataclasses import dataclass

from homeport.clock import Clock
from homeport.db.database import Transaction


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that has something to pull."""

    name: str
    created_at: float


def find(tx: Transaction, name: str) -> int | None:
    """The id of the repository, or None where there is none."""
    row = tx.one("SELECT id FROM repositories WHERE name = ?", (name,))
    return row[0] if row else None


def name(tx: Transaction, repository_id: int) -> str | None:
    """The name of the repository, or None where there is none."""
    row = tx.one("SELECT name FROM repositories WHERE id = ?", (repository_id,))
    return row[0] if row else None


def ensure(tx: Transaction, clock: Clock, name: str) -> int:
    """The id of the repository, which is made where there is none."""
    found = find(tx, name)
    if found is None:
        tx.run(
            "INSERT INTO repositories (name, created_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
            (name, clock.now()),
        )
        found = find(tx, name)
    assert found is not None
    return found


def forget(tx: Transaction, repository_id: int) -> None:
    """Drop the row of a repository in which nothing is linked any more."""
    tx.run("DELETE FROM repositories WHERE id = ?", (repository_id,))


def page(tx: Transaction, after: str, limit: int) -> list[Repository]:
    """At most `limit` repositories that have something to pull and come after `after`, in ASCII order."""
    rows = tx.all(
        "SELECT name, created_at FROM pullable_repositories WHERE name > ? ORDER BY name LIMIT ?", (after, limit)
    )
    return [Repository(*row) for row in rows]


def every(tx: Transaction, after: str, limit: int) -> list[tuple[int, str]]:
    """At most `limit` repositories behind `after`, also those that have nothing to pull: their ids and names."""
    rows = tx.all("SELECT id, name FROM repositories WHERE name > ? ORDER BY name LIMIT ?", (after, limit))
    return [(repository_id, name) for repository_id, name in rows]
