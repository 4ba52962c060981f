"""Tags: names that point at a manifest, and everything that they ever pointed at. Owns `tags` and `tag_history`.

Holds: a tag points at a manifest that its repository has. Every change of a tag adds a row to its history in the same
transaction; the history outlives tag and repository. A tag that the rules call immutable is never moved nor deleted,
whatever its name and whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from homeport import events
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.oci import companions
from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestUnknown, TagImmutable
from homeport.registry import blobs, repositories
from homeport.registry.registry import Registry
from homeport.registry.retention import immutable_by


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag and what it points at."""

    name: str
    digest: Digest
    pushed_at: float


@dataclass(frozen=True, slots=True)
class Change:
    """One row of a tag's history; `digest` is None where it was deleted, for `reason` where one was given."""

    digest: Digest | None
    actor: str
    changed_at: float
    reason: str | None = None


# --- facts ------------------------------------------------------------------------------------------------------


def find(tx: Transaction, repository_id: int, name: str) -> Tag | None:
    """The tag, or None."""
    row = tx.one(
        "SELECT digest, pushed_at FROM tag_targets WHERE repository_id = ? AND name = ?", (repository_id, name)
    )
    return Tag(name, Digest(row[0]), row[1]) if row else None


def check_movable(tx: Transaction, registry: Registry, repository: str, names: Iterable[str], digest: Digest) -> None:
    """Raise `TagImmutable` if one of the tags is there and cannot be let point at `digest`."""
    repository_id = repositories.find(tx, repository)
    if repository_id is not None:
        for name in names:
            _check_movable(registry, repository, find(tx, repository_id, name), digest)


def set_tag(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository: str,
    repository_id: int,
    name: str,
    manifest_id: int,
    digest: Digest,
) -> None:
    """Let the tag point at a manifest that the repository has. Raises `TagImmutable`."""
    now = registry.clock.now()
    before = find(tx, repository_id, name)
    _check_movable(registry, repository, before, digest)
    tx.run(
        "INSERT INTO tags (repository_id, name, manifest_id, pushed_at, subject) VALUES (?, ?, ?, ?, ?) ON CONFLICT"
        " (repository_id, name) DO UPDATE SET manifest_id = excluded.manifest_id, pushed_at = excluded.pushed_at",
        (repository_id, name, manifest_id, now, companions.subject(name)),
    )
    if before is None or before.digest != digest:
        if before is not None:
            blobs.release(tx, registry, repository_id, before.digest)
        _remember(tx, registry, origin, repository, name, digest)
        reason = f"was {before.digest}" if before else None
        events.append(
            tx, registry.clock, "tag.set", origin, repository=repository, tag=name, digest=digest, reason=reason
        )


def remove(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository: str,
    repository_id: int,
    tag: Tag,
    reason: str | None = None,
) -> None:
    """Delete the tag; its manifest stays until it is cleaned up. Raises `TagImmutable`."""
    check_mutable(registry, repository, tag)
    tx.run("DELETE FROM tags WHERE repository_id = ? AND name = ?", (repository_id, tag.name))
    blobs.release(tx, registry, repository_id, tag.digest)
    _remember(tx, registry, origin, repository, tag.name, None, reason)
    events.append(
        tx,
        registry.clock,
        "tag.deleted",
        origin,
        repository=repository,
        tag=tag.name,
        digest=tag.digest,
        reason=reason,
    )


def of_manifest(tx: Transaction, manifest_id: int, limit: int = 2**31) -> list[Tag]:
    """The tags that point at the manifest, at most `limit`."""
    rows = tx.all("SELECT name, digest, pushed_at FROM tag_targets WHERE manifest_id = ? LIMIT ?", (manifest_id, limit))
    return [Tag(name, Digest(found), pushed_at) for name, found, pushed_at in rows]


def page(tx: Transaction, repository: str, after: str, limit: int) -> list[Tag] | None:
    """At most `limit` tags that come after `after`, in ASCII order; None where there is no such repository."""
    repository_id = repositories.find(tx, repository)
    if repository_id is None:
        return None
    rows = tx.all(
        "SELECT name, digest, pushed_at FROM tag_targets WHERE repository_id = ? AND name > ? ORDER BY name LIMIT ?",
        (repository_id, after, limit),
    )
    return [Tag(name, Digest(digest), pushed_at) for name, digest, pushed_at in rows]


def count(tx: Transaction, repository_id: int) -> int:
    """How many tags the repository has."""
    row = tx.one("SELECT count(*) FROM tags WHERE repository_id = ?", (repository_id,))
    assert row is not None
    found: int = row[0]
    return found


def names(tx: Transaction, repository: str, after: str, limit: int) -> list[str] | None:
    """As `page`, only the names."""
    repository_id = repositories.find(tx, repository)
    if repository_id is None:
        return None
    rows = tx.all(
        "SELECT name FROM tags WHERE repository_id = ? AND name > ? ORDER BY name LIMIT ?",
        (repository_id, after, limit),
    )
    return [name for (name,) in rows]


def history(tx: Transaction, repository: str, name: str, limit: int = 1_000) -> list[Change]:
    """What the tag pointed at, the newest first."""
    rows = tx.all(
        "SELECT digest, actor, changed_at, reason FROM tag_history WHERE repository = ? AND tag = ?"
        " ORDER BY id DESC LIMIT ?",
        (repository, name, limit),
    )
    return [Change(Digest(row[0]) if row[0] else None, *row[1:]) for row in rows]


def pointed_at(tx: Transaction, repository: str, name: str, at: float) -> Digest | None:
    """What the tag pointed at at that time; None: at nothing."""
    row = tx.one(
        "SELECT digest FROM tag_history WHERE repository = ? AND tag = ? AND changed_at <= ? ORDER BY id DESC LIMIT 1",
        (repository, name, at),
    )
    return Digest(row[0]) if row and row[0] else None


def pointed_at_before(tx: Transaction, repository: str, name: str) -> Digest | None:
    """What the tag pointed at before its last change; None: at nothing."""
    changes = history(tx, repository, name, 2)
    return changes[1].digest if len(changes) == 2 else None


def deleted_for(tx: Transaction, repository: str, reason: str, after: str, limit: int) -> list[tuple[str, Digest]]:
    """At most `limit` tags behind `after` that were last deleted for this reason, and what they pointed at before."""
    rows = tx.all(
        "SELECT tag, (SELECT p.digest FROM tag_history p WHERE p.repository = h.repository AND p.tag = h.tag"
        " AND p.id < h.id ORDER BY p.id DESC LIMIT 1) FROM tag_history h"
        " WHERE repository = ? AND tag > ? AND digest IS NULL AND reason = ?"
        " AND id = (SELECT max(n.id) FROM tag_history n WHERE n.repository = h.repository AND n.tag = h.tag)"
        " ORDER BY tag LIMIT ?",
        (repository, after, reason, limit),
    )
    return [(name, Digest(digest)) for name, digest in rows]


def of_old_manifests(
    tx: Transaction, repository_id: int, newest_manifest: int, pushed_until: float, limit: int
) -> list[Tag]:
    """At most `limit` tags that were last pushed by that time, of manifests which are not newer than that one."""
    rows = tx.all(
        "SELECT name, digest, pushed_at FROM tag_targets WHERE repository_id = ? AND manifest_id <= ?"
        " AND pushed_at <= ? ORDER BY name LIMIT ?",
        (repository_id, newest_manifest, pushed_until, limit),
    )
    return [Tag(name, Digest(digest), pushed_at) for name, digest, pushed_at in rows]


def check_mutable(registry: Registry, repository: str, tag: Tag) -> None:
    """Raise `TagImmutable` if the tag is neither moved nor deleted."""
    by = immutable_by(registry.rules.retention, repository, tag.name)
    if by is not None:
        raise TagImmutable(f"{tag.name} by {by}")


def _check_movable(registry: Registry, repository: str, tag: Tag | None, digest: Digest) -> None:
    if tag is not None and tag.digest != digest:
        check_mutable(registry, repository, tag)


def _remember(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository: str,
    name: str,
    digest: Digest | None,
    reason: str | None = None,
) -> None:
    tx.run(
        "INSERT INTO tag_history (repository, tag, digest, actor, changed_at, reason) VALUES (?, ?, ?, ?, ?, ?)",
        (repository, name, digest, origin.actor, registry.clock.now(), reason),
    )


def _delete(tx: Transaction, registry: Registry, origin: Origin, repository: str, name: str) -> None:
    repository_id = repositories.find(tx, repository)
    tag = None if repository_id is None else find(tx, repository_id, name)
    if repository_id is None or tag is None:
        raise ManifestUnknown(f"{repository}:{name}")
    remove(tx, registry, origin, repository, repository_id, tag)


# --- flows ------------------------------------------------------------------------------------------------------


async def delete(registry: Registry, origin: Origin, repository: str, name: str) -> None:
    """Delete the tag, and no other tag of the same manifest. Raises `ManifestUnknown` or `TagImmutable`."""
    registry.check_writable()
    await registry.db.write(_delete, registry, origin, repository, name)
