"""What was seen at other registries, and when. Owns the tables `upstream_tags` and `upstream_lists`.

Holds: how long a tag has been what it is counts from when we saw it so: what an image says of its own age is forged by
exactly those that should have to wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from homeport.db import batches
from homeport.db.database import Transaction
from homeport.mirror.addresses import Source
from homeport.oci.digest import Digest

_SELECT = "SELECT tag, digest, first_seen_at, checked_at FROM upstream_tags WHERE host = ? AND repository = ?"
#: A sighting that says nothing new is written again after so long only, so that a quiet night costs no writes.
_RENEWAL_SECONDS = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A tag as it was last seen."""

    #: None: upstream had no such tag.
    digest: Digest | None
    first_seen_at: float
    checked_at: float


def of_tags(tx: Transaction, source: Source, tags: Iterable[str]) -> dict[str, Sighting]:
    """Those of the tags that were seen before."""
    found: dict[str, Sighting] = {}
    for some, marks in batches.of(tags):
        sql = f"{_SELECT} AND tag IN ({marks})"
        rows = tx.all(sql, (*source, *some))
        found.update((tag, Sighting(Digest(digest) if digest else None, *times)) for tag, digest, *times in rows)
    return found


def record(tx: Transaction, source: Source, seen: Mapping[str, Digest | None], now: float) -> None:
    """Note what the tags are now."""
    known = of_tags(tx, source, seen)
    for tag, digest in seen.items():
        before = known.get(tag)
        is_same = before is not None and before.digest == digest
        if before is None or not is_same or not 0 <= now - before.checked_at < _RENEWAL_SECONDS:
            _write(tx, source, tag, digest, before, now)


def note(tx: Transaction, source: Source, tag: str, digest: Digest | None, now: float) -> None:
    """Note what one tag is now, and that it was looked at just now."""
    _write(tx, source, tag, digest, of_tags(tx, source, [tag]).get(tag), now)


def prune(tx: Transaction, before: float, limit: int = 1_000) -> int:
    """Forget at most `limit` tags that nobody has looked at since `before`; how many those were."""
    return tx.run(
        "DELETE FROM upstream_tags WHERE (host, repository, tag) IN"
        " (SELECT host, repository, tag FROM upstream_tags WHERE checked_at < ? LIMIT ?)",
        (before, limit),
    )


def listed(tx: Transaction, source: Source) -> int | None:
    """How many tags the repository had in its last complete list; None: none was read."""
    row = tx.one("SELECT listed FROM upstream_lists WHERE host = ? AND repository = ?", source)
    return row[0] if row else None


def record_list(tx: Transaction, source: Source, count: int, now: float) -> None:
    """Note that a complete list had so many tags."""
    tx.run(
        "INSERT INTO upstream_lists (host, repository, listed, listed_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (host, repository) DO UPDATE SET listed = excluded.listed, listed_at = excluded.listed_at",
        (*source, count, now),
    )


def prune_lists(tx: Transaction, before: float, limit: int = 1_000) -> int:
    """Forget at most `limit` lists from before that time that nothing rests on; how many those were."""
    return tx.run(
        "DELETE FROM upstream_lists WHERE (host, repository) IN"
        " (SELECT host, repository FROM unneeded_upstream_lists WHERE listed_at < ? LIMIT ?)",
        (before, limit),
    )


def _write(
    tx: Transaction, source: Source, tag: str, digest: Digest | None, before: Sighting | None, now: float
) -> None:
    first = min(before.first_seen_at, now) if before is not None and before.digest == digest else now
    tx.run(
        "INSERT INTO upstream_tags (host, repository, tag, digest, first_seen_at, checked_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (host, repository, tag) DO UPDATE SET digest = excluded.digest,"
        " first_seen_at = excluded.first_seen_at, checked_at = excluded.checked_at",
        (*source, tag, digest, first, now),
    )
