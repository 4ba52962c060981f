"""What was deleted and can be brought back. Owns the tables `trashed_links` and `trashed_blobs`.

Holds:
- Every link that a repository loses leaves a row here, in the same transaction, whoever took it away.
- Bytes are purged only when no row of `trashed_links` names them any more, so whatever is listed can be restored.
- A row goes before its bytes do: who finds the row gone knows that the bytes may be.
- Ids grow with time, and what a manifest names cannot leave its repository before it: so a manifest has a lower id than
  what it needs from here, and rows that go by their ids leave nothing behind that cannot be restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homeport.db.database import Row, Transaction
from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.registry.registry import Registry

_COLUMNS = "id, repository, digest, size, media_type, removed_at, actor, reason"


@dataclass(frozen=True, slots=True)
class TrashedLink:
    """Something that a repository offered once. `media_type` is a manifest's."""

    #: Another one each time that it is removed.
    id: int
    repository: str
    digest: Digest
    size: int
    media_type: str | None
    removed_at: float
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class TrashedBlob:
    """Bytes in the trash. `size` is None where no row said it."""

    name: str
    digest: Digest
    size: int | None
    location: str


# --- facts: links -----------------------------------------------------------------------------------------------


def keep_link(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository_id: int,
    digest: Digest,
    *,
    reason: str,
    manifest: tuple[str, bytes] | None,
    lacked: Sequence[str] = (),
) -> None:
    """Remember what the repository still offers and will not; of a manifest its media type and bytes.

    `lacked`: what it names and the repository does not have, so that it comes back as it is.
    """
    media_type, data = manifest or (None, None)
    tx.run(
        "INSERT INTO trashed_links (repository, digest, size, media_type, data, lacked, removed_at, actor, reason)"
        " SELECT repository, digest, size, ?, ?, ?, ?, ?, ? FROM linked_blobs WHERE repository_id = ? AND digest = ?"
        " ON CONFLICT (repository, digest) DO UPDATE SET size = excluded.size,"
        " media_type = excluded.media_type, data = excluded.data, lacked = excluded.lacked,"
        " removed_at = excluded.removed_at, actor = excluded.actor, reason = excluded.reason",
        (
            media_type,
            data,
            " ".join(lacked) or None,
            registry.clock.now(),
            origin.actor,
            reason,
            repository_id,
            digest,
        ),
    )


def forget_link(tx: Transaction, repository: str, digest: str) -> None:
    """The repository offers it again."""
    tx.run("DELETE FROM trashed_links WHERE repository = ? AND digest = ?", (repository, digest))


def find_link(tx: Transaction, repository: str, digest: Digest) -> TrashedLink | None:
    """What the repository offered under this digest."""
    row = tx.one(f"SELECT {_COLUMNS} FROM trashed_links WHERE repository = ? AND digest = ?", (repository, digest))  # noqa: S608
    return _link(row) if row else None


def manifest_data(tx: Transaction, repository: str, digest: Digest) -> tuple[str, bytes] | None:
    """Media type and bytes of a manifest in the trash."""
    row = tx.one(
        "SELECT media_type, data FROM trashed_links WHERE repository = ? AND digest = ? AND media_type IS NOT NULL",
        (repository, digest),
    )
    return (row[0], row[1]) if row else None


def lacked(tx: Transaction, repository: str, digest: Digest) -> frozenset[str]:
    """What a manifest in the trash names and its repository did not have when it went."""
    row = tx.one("SELECT lacked FROM trashed_links WHERE repository = ? AND digest = ?", (repository, digest))
    return frozenset(row[0].split()) if row and row[0] else frozenset()


def links(tx: Transaction, repository: str | None, after: tuple[str, str], limit: int) -> list[TrashedLink]:
    """At most `limit` things of one repository or of all (None) that come after `after`, by repository and digest."""
    where = "" if repository is None else " AND repository = ?"
    some = () if repository is None else (repository,)
    rows = tx.all(
        f"SELECT {_COLUMNS} FROM trashed_links WHERE (repository, digest) > (?, ?){where}"  # noqa: S608
        " ORDER BY repository, digest LIMIT ?",
        (*after, *some, limit),
    )
    return list(map(_link, rows))


def repositories(tx: Transaction, after: str, limit: int) -> list[str]:
    """At most `limit` repositories behind `after` of which something is in the trash."""
    rows = tx.all(
        "SELECT DISTINCT repository FROM trashed_links WHERE repository > ? ORDER BY repository LIMIT ?",
        (after, limit),
    )
    return [name for (name,) in rows]


def newest_id(tx: Transaction) -> int:
    """The id of what came last."""
    row = tx.one("SELECT coalesce(max(id), 0) FROM trashed_links")
    assert row is not None
    found: int = row[0]
    return found


def forget(tx: Transaction, link: TrashedLink) -> bool:
    """Nobody wants it back; False if it was brought back since, and perhaps removed again."""
    return bool(tx.run("DELETE FROM trashed_links WHERE id = ?", (link.id,)))


def is_listed(tx: Transaction, digest: Digest) -> bool:
    """Whether any repository can have it back."""
    return bool(tx.one("SELECT 1 FROM trashed_links WHERE digest = ? LIMIT 1", (digest,)))


def expire_links(tx: Transaction, before: float, limit: int) -> int:
    """Forget at most `limit` of what was removed before `before`, the oldest first; how many those were."""
    return tx.run(
        "DELETE FROM trashed_links WHERE id IN"
        " (SELECT id FROM trashed_links WHERE removed_at < ? ORDER BY removed_at, id LIMIT ?)",
        (before, limit),
    )


# --- facts: bytes -----------------------------------------------------------------------------------------------


def keep_bytes(tx: Transaction, blob: TrashedBlob, retired_at: float) -> None:
    """Remember where retired bytes are, and since when."""
    tx.run(
        "INSERT INTO trashed_blobs (name, digest, size, location, retired_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET location = excluded.location, retired_at = excluded.retired_at",
        (blob.name, blob.digest, blob.size, blob.location, retired_at),
    )


def bytes_of(tx: Transaction, digest: Digest) -> list[TrashedBlob]:
    """The retired bytes of this digest, the newest first."""
    rows = tx.all(
        "SELECT name, digest, size, location FROM trashed_blobs WHERE digest = ? ORDER BY retired_at DESC", (digest,)
    )
    return list(map(_blob, rows))


def has_bytes(tx: Transaction, location: str) -> bool:
    """Whether a row names this place of the trash."""
    return bool(tx.one("SELECT 1 FROM trashed_blobs WHERE location = ?", (location,)))


def forget_bytes(tx: Transaction, name: str) -> None:
    """These bytes are purged, or restored."""
    tx.run("DELETE FROM trashed_blobs WHERE name = ?", (name,))


def hurry(tx: Transaction, digest: Digest) -> None:
    """Have these bytes purged with the next sweep, where nothing listed needs them: a person purged what did."""
    tx.run("UPDATE trashed_blobs SET retired_at = 0 WHERE digest = ?", (digest,))


def purgeable(tx: Transaction, before: float, limit: int) -> list[TrashedBlob]:
    """At most `limit` of the bytes that were retired before `before` and that nothing listed needs."""
    rows = tx.all(
        "SELECT name, digest, size, location FROM trashed_blobs b WHERE retired_at < ?"
        " AND NOT EXISTS (SELECT 1 FROM trashed_links l WHERE l.digest = b.digest) ORDER BY retired_at LIMIT ?",
        (before, limit),
    )
    return list(map(_blob, rows))


def may_purge(tx: Transaction, blob: TrashedBlob, before: float) -> bool:
    """Whether these bytes are still in the trash, for so long, and nothing listed needs them."""
    return bool(
        tx.one(
            "SELECT 1 FROM trashed_blobs b WHERE name = ? AND retired_at < ?"
            " AND NOT EXISTS (SELECT 1 FROM trashed_links l WHERE l.digest = b.digest)",
            (blob.name, before),
        )
    )


def total_bytes(tx: Transaction) -> int:
    """How many bytes lie in the trash."""
    row = tx.one("SELECT coalesce(sum(size), 0) FROM trashed_blobs")
    assert row is not None
    found: int = row[0]
    return found


def _link(row: Row) -> TrashedLink:
    return TrashedLink(row[0], row[1], Digest(row[2]), *row[3:])


def _blob(row: Row) -> TrashedBlob:
    return TrashedBlob(row[0], Digest(row[1]), row[2], row[3])
