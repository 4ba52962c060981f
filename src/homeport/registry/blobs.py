"""Blobs: bytes, and which repositories hold them. Owns the tables `blobs`, `holds` and `links`.

Holds (docs/format.md draws the protocol):
- A row is *live* only while its bytes are durable at its location: bytes first, the row after them.
- Only the upload whose own write hold still runs may make a row live. A lapsed hold is never renewed.
- A repository offers a blob while it has a link to a live row. `keep_until` of the link is what clients were told; it
  never proves that there are bytes.
- A row that nothing links is *condemned* first, and its bytes move in a later transaction that looks again: so whoever
  found it live has had time to use it, and nobody is told of it any more when they go.
- What is not linked, and what is linked and not referred to, has a row in `reviews`; what is unlinked one in the trash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from homeport import events
from homeport.db import batches
from homeport.db.database import Transaction
from homeport.events import SYSTEM, Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, BlobUploadUnknown, ReferencedByManifest
from homeport.registry import quotas, repositories, reviews, trash
from homeport.registry.registry import Registry
from homeport.registry.trash import TrashedBlob

#: How many repositories are looked at for one that the caller may read, when a mount names no source.
MOUNT_SOURCES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Blob:
    """A live blob."""

    digest: Digest
    size: int
    location: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A row as a sweep sees it: whether anything links it, and until when somebody writes its bytes (None: nobody)."""

    state: str
    size: int | None
    location: str | None
    changed_at: float
    trash: str | None
    linked: int
    held_until: float | None
    purged_at: float | None


# --- facts ------------------------------------------------------------------------------------------------------


def find(tx: Transaction, repository: str, digest: Digest) -> Blob | None:
    """The blob, if the repository offers it."""
    row = tx.one("SELECT size, location FROM held_blobs WHERE repository = ? AND digest = ?", (repository, digest))
    return Blob(digest, *row) if row else None


def hold(tx: Transaction, registry: Registry, digest: Digest, upload: str) -> Blob | None:
    """Say "these bytes are being written by `upload`". The blob as it is, if it is live already.

    From here until the hold lapses no sweep takes bytes or row away.
    """
    now = registry.clock.now()
    tx.lock([digest])
    is_new = tx.run(
        "INSERT INTO blobs (digest, state, changed_at) VALUES (?, 'arriving', ?) ON CONFLICT (digest) DO NOTHING",
        (digest, now),
    )
    if is_new:
        reviews.ask(tx, registry, reviews.BLOB, digest, now + registry.rules.grace_seconds)
    tx.run("DELETE FROM holds WHERE digest = ? AND expires_at <= ?", (digest, now))
    tx.run(
        # A second try of the same upload: its hold still runs, or the statement before would have dropped it.
        "INSERT INTO holds (digest, upload, expires_at) VALUES (?, ?, ?)"
        " ON CONFLICT (digest, upload) DO UPDATE SET expires_at = excluded.expires_at",
        (digest, upload, now + registry.rules.hold_seconds),
    )
    row = tx.one("SELECT size, location FROM blobs WHERE digest = ? AND state = 'live'", (digest,))
    return Blob(digest, *row) if row else None


def offer(tx: Transaction, registry: Registry, repository: str, blob: Blob, upload: str) -> int:
    """Make the blob live, its bytes being durable, and link it; the id of the repository.

    Raises `BlobUploadUnknown` when the upload's own hold has lapsed: a sweep may have been there since, so nothing is
    known about the bytes and the client has to send them again.
    """
    now = registry.clock.now()
    tx.lock([blob.digest])
    held = tx.run("DELETE FROM holds WHERE digest = ? AND upload = ? AND expires_at > ?", (blob.digest, upload, now))
    if not held:
        raise BlobUploadUnknown("the upload took too long to finish")
    tx.run(
        "UPDATE blobs SET state = 'live', size = ?, location = ?, changed_at = ?, lost_at = NULL, trash = NULL,"
        " purged_at = NULL WHERE digest = ?",
        (blob.size, blob.location, now, blob.digest),
    )
    return link(tx, registry, repository, blob.digest)


def link(tx: Transaction, registry: Registry, repository: str, digest: Digest) -> int:
    """Let the repository offer a live blob, and promise that it stays for a day; the id of the repository.

    Raises `QuotaExceeded`.
    """
    now = registry.clock.now()
    until = now + registry.rules.keep_seconds
    repository_id = repositories.ensure(tx, registry.clock, repository)
    known = tx.run(
        "UPDATE links SET keep_until = ? WHERE repository_id = ? AND digest = ?", (until, repository_id, digest)
    )
    if not known:
        tx.run(
            "INSERT INTO links (repository_id, digest, linked_at, keep_until, released_at) VALUES (?, ?, ?, ?, ?)",
            (repository_id, digest, now, until, now),
        )
        quotas.charge(tx, registry, repository_id, repository, digest)
        reviews.ask(tx, registry, repository_id, digest, until)
        trash.forget_link(tx, repository, digest)
    return repository_id


def take_out(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository: str,
    repository_id: int,
    digest: Digest,
    *,
    reason: str | None,
    manifest: tuple[str, bytes] | None = None,
    lacked: Sequence[str] = (),
) -> None:
    """Stop offering the digest here, and keep in the trash what it was: of a manifest its media type and bytes, and
    what it lacked here of all that it names.

    Its bytes go when no repository has a link to them any more. The caller has seen to it that nothing here names it.
    """
    why = reason or "deleted"
    trash.keep_link(tx, registry, origin, repository_id, digest, reason=why, manifest=manifest, lacked=lacked)
    tx.run("DELETE FROM links WHERE repository_id = ? AND digest = ?", (repository_id, digest))
    quotas.discharge(tx, repository_id, digest)
    reviews.drop(tx, repository_id, digest)
    if not tx.one("SELECT 1 FROM links WHERE digest = ? LIMIT 1", (digest,)):
        reviews.look(tx, reviews.BLOB, digest, registry.clock.now())
    if not tx.one("SELECT 1 FROM links WHERE repository_id = ? LIMIT 1", (repository_id,)):
        repositories.forget(tx, repository_id)
    kind = "blob.deleted" if manifest is None else "manifest.deleted"
    events.append(tx, registry.clock, kind, origin, repository=repository, digest=digest, reason=reason)


def release(tx: Transaction, registry: Registry, repository_id: int, digest: Digest) -> None:
    """Note that a reference to the digest was lost: the grace before a sweep counts from the last such loss."""
    now = registry.clock.now()
    known = tx.run(
        "UPDATE links SET released_at = ? WHERE repository_id = ? AND digest = ?", (now, repository_id, digest)
    )
    if known:
        reviews.ask(tx, registry, repository_id, digest, now + registry.rules.grace_seconds_min)


def renew(tx: Transaction, registry: Registry, repository: str, digest: Digest) -> None:
    """Note that somebody uses what perhaps nothing refers to: its grace begins anew, where it is older than an hour."""
    now = registry.clock.now()
    repository_id = repositories.find(tx, repository)
    if repository_id is not None:
        tx.run(
            "UPDATE links SET released_at = ? WHERE repository_id = ? AND digest = ? AND released_at < ?",
            (now, repository_id, digest, now - registry.rules.keep_renewal_seconds),
        )


def look_at(tx: Transaction, registry: Registry, repository_id: int, digest: Digest) -> None:
    """Have the link looked at at once: what it belonged to was swept, so its own grace has long been over."""
    if tx.one("SELECT 1 FROM links WHERE repository_id = ? AND digest = ?", (repository_id, digest)):
        reviews.look(tx, repository_id, digest, registry.clock.now())


def missing(tx: Transaction, repository: str, digests: Iterable[Digest]) -> list[Digest]:
    """Those of `digests` that the repository does not offer, having locked the others against a sweep."""
    wanted = list(dict.fromkeys(digests))
    tx.lock(wanted)
    held: set[str] = set()
    for some, marks in batches.of(wanted):
        rows = tx.all(
            f"SELECT digest FROM held_blobs WHERE repository = ? AND digest IN ({marks})",  # noqa: S608 (marks only)
            (repository, *some),
        )
        held.update(digest for (digest,) in rows)
    return [digest for digest in wanted if digest not in held]


def keep(tx: Transaction, registry: Registry, repository_id: int, digests: Iterable[Digest]) -> None:
    """Promise again that these links stay for a day, where the last promise is older than an hour."""
    until = registry.clock.now() + registry.rules.keep_seconds
    for some, marks in batches.of(digests):
        tx.run(
            f"UPDATE links SET keep_until = ? WHERE repository_id = ? AND keep_until < ? AND digest IN ({marks})",  # noqa: S608 (marks only)
            (until, repository_id, until - registry.rules.keep_renewal_seconds, *some),
        )


def _promised_until(tx: Transaction, repository: str, digest: Digest) -> tuple[Blob, float] | None:
    row = tx.one(
        "SELECT size, location, keep_until FROM held_blobs WHERE repository = ? AND digest = ?", (repository, digest)
    )
    return (Blob(digest, row[0], row[1]), row[2]) if row else None


def _promise(tx: Transaction, registry: Registry, repository: str, digest: Digest) -> Blob | None:
    tx.lock([digest])
    blob = find(tx, repository, digest)
    repository_id = repositories.find(tx, repository)
    if blob is not None and repository_id is not None:
        keep(tx, registry, repository_id, [digest])
    return blob


def _readable_source(tx: Transaction, digest: Digest, readable: Callable[[Transaction, str], bool]) -> str | None:
    rows = tx.all("SELECT repository FROM held_blobs WHERE digest = ? LIMIT ?", (digest, MOUNT_SOURCES_MAX))
    return next((name for (name,) in rows if readable(tx, name)), None)


def _mount(
    tx: Transaction, registry: Registry, origin: Origin, repository: str, digest: Digest, source: str
) -> Blob | None:
    tx.lock([digest])
    blob = find(tx, source, digest)
    if blob is not None:
        known = find(tx, repository, digest)
        link(tx, registry, repository, digest)
        if not known:
            events.append(
                tx,
                registry.clock,
                "blob.mounted",
                origin,
                repository=repository,
                digest=digest,
                reason=f"from {source}",
            )
    return blob


def _delete(tx: Transaction, registry: Registry, origin: Origin, repository: str, digest: Digest) -> None:
    repository_id = repositories.find(tx, repository)
    if repository_id is None or find(tx, repository, digest) is None:
        raise BlobUnknown(digest)
    named = tx.one(
        "SELECT manifest FROM named_digests WHERE repository_id = ? AND digest = ? LIMIT 1", (repository_id, digest)
    )
    if named:
        raise ReferencedByManifest(f"{digest} is named by {named[0]}")
    take_out(tx, registry, origin, repository, repository_id, digest, reason=None)


# --- facts: going ------------------------------------------------------------------------------------------------


def condition(tx: Transaction, now: float, digest: Digest) -> Condition | None:
    """The row as it is, locked against pushes; None where there is none."""
    tx.lock([digest], exclusive=True)
    row = tx.one(
        "SELECT state, size, location, changed_at, trash, EXISTS (SELECT 1 FROM links l WHERE l.digest = b.digest),"
        " (SELECT max(expires_at) FROM holds h WHERE h.digest = b.digest AND expires_at > ?), purged_at"
        " FROM blobs b WHERE digest = ?",
        (now, digest),
    )
    return Condition(*row) if row else None


def condemn(tx: Transaction, registry: Registry, digest: Digest) -> None:
    """Let the blob be absent to every reader from now on. The caller has found it free, in this transaction."""
    tx.run(
        "UPDATE blobs SET state = 'condemned', changed_at = ?, trash = ? WHERE digest = ?",
        (registry.clock.now(), f"{registry.clock.new_id()}-{digest.algorithm}-{digest.encoded}", digest),
    )


def condemned_at(tx: Transaction, digests: list[Digest]) -> float | None:
    """When the last of these digests was condemned that are; None: none is."""
    newest: list[float] = []
    for some, marks in batches.of(digests):
        sql = f"SELECT max(changed_at) FROM blobs WHERE digest IN ({marks}) AND state = 'condemned'"  # noqa: S608 (marks only)
        row = tx.one(sql, some)
        newest += [row[0]] if row is not None and row[0] is not None else []
    return max(newest, default=None)


def retire(tx: Transaction, registry: Registry, digest: Digest, found: Condition) -> None:
    """Move the bytes of a condemned blob to the trash, and drop its row. The caller has found it free just now.

    A crash may come after the move and before the commit: the row is still condemned then, and the next try moves
    nothing. Where a row does not know where its bytes are (they were never offered), the walk finds them.
    """
    if found.location is not None and found.trash is not None:
        location = registry.blobs.retire(found.location, found.trash)
        since = registry.clock.now() if found.purged_at is None else 0.0
        trash.keep_bytes(tx, TrashedBlob(found.trash, digest, found.size, location), since)
    tx.run("DELETE FROM holds WHERE digest = ?", (digest,))
    tx.run("DELETE FROM blobs WHERE digest = ?", (digest,))


def forget_lapsed_holds(tx: Transaction, now: float, limit: int) -> int:
    """Drop at most `limit` holds that have lapsed, of pushes that died; how many those were. None is ever renewed."""
    return tx.run(
        "DELETE FROM holds WHERE (digest, upload) IN (SELECT digest, upload FROM holds WHERE expires_at <= ? LIMIT ?)",
        (now, limit),
    )


def purge(tx: Transaction, registry: Registry, digest: Digest) -> int:
    """Nobody can have the blob back: if its bytes are still in their place they go for good when the sweep moves them.

    How many those are; 0 where a repository offers them.
    """
    row = tx.one(
        "SELECT size FROM blobs b WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = b.digest)",
        (digest,),
    )
    if row is None:
        return 0
    tx.run("UPDATE blobs SET purged_at = ? WHERE digest = ?", (registry.clock.now(), digest))
    size: int = row[0] or 0
    return size


def loose(tx: Transaction, repository_id: int, linked_until: float, after: str, limit: int) -> list[Digest]:
    """At most `limit` digests behind `after` that were linked here by that time, and that no manifest here names."""
    rows = tx.all(
        "SELECT digest FROM links l WHERE repository_id = ? AND digest > ? AND linked_at <= ? AND NOT EXISTS"
        " (SELECT 1 FROM named_digests n WHERE n.repository_id = l.repository_id AND n.digest = l.digest)"
        " ORDER BY digest LIMIT ?",
        (repository_id, after, linked_until, limit),
    )
    return [Digest(digest) for (digest,) in rows]


def is_loose(tx: Transaction, repository_id: int, digest: Digest) -> bool:
    """Whether the repository links the digest and no manifest here names it. Locks it against those who would."""
    tx.lock([digest], exclusive=True)
    return bool(
        tx.one(
            "SELECT 1 FROM links l WHERE repository_id = ? AND digest = ? AND NOT EXISTS"
            " (SELECT 1 FROM named_digests n WHERE n.repository_id = l.repository_id AND n.digest = l.digest)",
            (repository_id, digest),
        )
    )


def on_the_way(tx: Transaction, registry: Registry, digest: Digest) -> list[TrashedBlob]:
    """Where the bytes of a condemned blob go. They are there if a crash came between their move and its commit.

    Else they are in their place still, but perhaps not durably: they may be of a push that died, which a walk found.
    """
    row = tx.one(
        "SELECT size, location, trash FROM blobs WHERE digest = ? AND location IS NOT NULL AND trash IS NOT NULL",
        (digest,),
    )
    if row is None:
        return []
    size, location, name = row
    return [TrashedBlob(name, digest, size, registry.blobs.trash_location(location, name))]


def condemned(tx: Transaction) -> tuple[int, int]:
    """How many blobs are condemned, and how many bytes those have. They all have a name in the trash."""
    row = tx.one("SELECT count(*), coalesce(sum(size), 0) FROM blobs WHERE trash IS NOT NULL AND state = 'condemned'")
    assert row is not None
    return row[0], row[1]


def unlinked(tx: Transaction, digests: list[Digest]) -> list[tuple[Digest, int]]:
    """Those of `digests` that have a row and that no repository links, with their sizes; 0 where nobody knows it."""
    found: list[tuple[Digest, int]] = []
    for some, marks in batches.of(digests):
        rows = tx.all(
            f"SELECT digest, coalesce(size, 0) FROM blobs b WHERE digest IN ({marks})"  # noqa: S608 (marks only)
            " AND NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = b.digest)",
            some,
        )
        found += [(Digest(digest), size) for digest, size in rows]
    return found


def link_counts(tx: Transaction, digests: list[Digest]) -> dict[str, int]:
    """How many repositories link each of `digests`."""
    found: dict[str, int] = {}
    for some, marks in batches.of(digests):
        rows = tx.all(f"SELECT digest, count(*) FROM links WHERE digest IN ({marks}) GROUP BY digest", some)  # noqa: S608
        found.update(dict(rows))
    return found


def is_trash(tx: Transaction, name: str) -> bool:
    """Whether a condemned blob's bytes go under this name."""
    return bool(tx.one("SELECT 1 FROM blobs WHERE trash = ?", (name,)))


def adopt(tx: Transaction, registry: Registry, found: Blob) -> bool:
    """Give bytes that lie in a blob's place and that no row knows a row that offers nothing; whether they had none."""
    now = registry.clock.now()
    is_new = tx.run(
        "INSERT INTO blobs (digest, state, size, location, changed_at) VALUES (?, 'arriving', ?, ?, ?)"
        " ON CONFLICT (digest) DO NOTHING",
        (found.digest, found.size, found.location, now),
    )
    if is_new:
        reviews.ask(tx, registry, reviews.BLOB, found.digest, now + registry.rules.grace_seconds)
    return bool(is_new)


def unknown(tx: Transaction, digests: list[Digest]) -> set[Digest]:
    """Those of `digests` that have no row."""
    known: set[str] = set()
    for some, marks in batches.of(digests):
        known.update(d for (d,) in tx.all(f"SELECT digest FROM blobs WHERE digest IN ({marks})", some))  # noqa: S608
    return {digest for digest in digests if digest not in known}


def live(tx: Transaction, after: str, limit: int) -> list[tuple[Blob, float | None]]:
    """At most `limit` live blobs behind `after`, and since when their bytes are known to be lost."""
    rows = tx.all(
        "SELECT digest, size, location, lost_at FROM blobs WHERE state = 'live' AND digest > ? ORDER BY digest LIMIT ?",
        (after, limit),
    )
    return [(Blob(Digest(digest), size, location), lost_at) for digest, size, location, lost_at in rows]


def note_lost(tx: Transaction, registry: Registry, blob: Blob, *, lost: bool) -> bool:
    """Note that the bytes of a live row are not there, or are again; whether that is news, which is an event."""
    now = registry.clock.now()
    changed = tx.run(
        "UPDATE blobs SET lost_at = ? WHERE digest = ? AND state = 'live' AND location = ? AND (lost_at IS NULL) = ?",
        (now if lost else None, blob.digest, blob.location, lost),
    )
    if changed:
        kind = "blob.lost" if lost else "blob.found"
        events.append(tx, registry.clock, kind, SYSTEM, digest=blob.digest)
    return bool(changed)


# --- flows ------------------------------------------------------------------------------------------------------


async def get(registry: Registry, repository: str, digest: Digest) -> Blob:
    """The blob, or `BlobUnknown`."""
    blob = await registry.db.read(find, repository, digest)
    if blob is None:
        raise BlobUnknown(digest)
    return blob


async def is_whole(registry: Registry, blob: Blob) -> bool:
    """Whether the blob's file is there in its size. The row says that it is; the file has the last word.

    Whoever is told that a damaged blob is absent pushes it again, and that mends it.
    """
    return await registry.blobs.stat(blob.location) == blob.size


async def find_whole(registry: Registry, repository: str, digest: Digest) -> Blob | None:
    """The blob, if the repository has it with all its bytes."""
    blob = await registry.db.read(find, repository, digest)
    return blob if blob is not None and await is_whole(registry, blob) else None


async def get_and_keep(registry: Registry, repository: str, digest: Digest) -> Blob:
    """The blob, for a caller who may push and will rely on it being here: the promise is renewed before the answer."""
    found = await registry.db.read(_promised_until, repository, digest)
    if found is None:
        raise BlobUnknown(digest)
    blob, until = found
    rules = registry.rules
    fresh = until >= registry.clock.now() + rules.keep_seconds - rules.keep_renewal_seconds
    if fresh or rules.read_only is not None:
        return blob
    kept = await registry.db.write(_promise, registry, repository, digest)
    if kept is None:
        raise BlobUnknown(digest)
    return kept


async def mount(
    registry: Registry,
    origin: Origin,
    repository: str,
    digest: Digest,
    source: str | None,
    readable: Callable[[Transaction, str], bool],
) -> Blob | None:
    """Link a blob of another repository here, without its bytes moving; None where that can't be.

    `readable` is the fact whether the caller may pull from a repository: what they may not read is not there for them
    (CVE-2024-39897). Without a `source` any repository will do that they may read.
    """
    registry.check_writable()
    if source is None:
        source = await registry.db.read(_readable_source, digest, readable)
    elif not await registry.db.read(readable, source):
        source = None
    blob = await find_whole(registry, source, digest) if source is not None else None
    if source is None or blob is None:
        return None
    return await registry.db.write(_mount, registry, origin, repository, digest, source)


async def delete(registry: Registry, origin: Origin, repository: str, digest: Digest) -> None:
    """Take the blob out of this repository. Raises `BlobUnknown`, or `ReferencedByManifest` while one names it."""
    registry.check_writable()
    await registry.db.write(_delete, registry, origin, repository, digest)
