"""Blobs: bytes, and which repositories hold them. Owns the tables `blobs`, `holds` and `links`.

Holds (docs/format.md draws the protocol):
- A row is *live* only while its bytes are durable at its location: bytes first, the row after them.
- Only the upload whose own write hold still runs may make a row live. A lapsed hold is never renewed.
- A repository offers a blob while it has a link to a live row. `keep_until` of the link is what clients were told; it
  never proves that there are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from homeport import events
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, BlobUploadUnknown, ReferencedByManifest
from homeport.registry import quotas, repositories
from homeport.registry.registry import Registry

#: How many repositories are looked at for one that the caller may read, when a mount names no source.
MOUNT_SOURCES_MAX = 1_000
#: Digests that one statement asks for.
DIGESTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Blob:
    """A live blob."""

    digest: Digest
    size: int
    location: str


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
    tx.run(
        "INSERT INTO blobs (digest, state, changed_at) VALUES (?, 'arriving', ?) ON CONFLICT (digest) DO NOTHING",
        (digest, now),
    )
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
        "UPDATE blobs SET state = 'live', size = ?, location = ?, changed_at = ? WHERE digest = ?",
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
    is_new = tx.run(
        "INSERT INTO links (repository_id, digest, linked_at, keep_until, released_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (repository_id, digest) DO NOTHING",
        (repository_id, digest, now, until, now),
    )
    if is_new:
        quotas.charge(tx, registry, repository_id, repository, digest)
    else:
        tx.run("UPDATE links SET keep_until = ? WHERE repository_id = ? AND digest = ?", (until, repository_id, digest))
    return repository_id


def unlink(tx: Transaction, repository_id: int, digest: Digest) -> None:
    """Stop offering the digest here. Its bytes go when no repository has a link to them any more."""
    if tx.run("DELETE FROM links WHERE repository_id = ? AND digest = ?", (repository_id, digest)):
        quotas.discharge(tx, repository_id, digest)
    if not tx.one("SELECT 1 FROM links WHERE repository_id = ? LIMIT 1", (repository_id,)):
        repositories.forget(tx, repository_id)


def release(tx: Transaction, registry: Registry, repository_id: int, digest: Digest) -> None:
    """Note that a reference to the digest was lost: the grace before a sweep counts from the last such loss."""
    tx.run(
        "UPDATE links SET released_at = ? WHERE repository_id = ? AND digest = ?",
        (registry.clock.now(), repository_id, digest),
    )


def missing(tx: Transaction, repository: str, digests: Iterable[Digest]) -> list[Digest]:
    """Those of `digests` that the repository does not offer, having locked the others against a sweep."""
    wanted = list(dict.fromkeys(digests))
    tx.lock(wanted)
    held: set[str] = set()
    for some in _batches(wanted):
        marks = ",".join("?" * len(some))
        rows = tx.all(
            f"SELECT digest FROM held_blobs WHERE repository = ? AND digest IN ({marks})",  # noqa: S608 (marks only)
            (repository, *some),
        )
        held.update(digest for (digest,) in rows)
    return [digest for digest in wanted if digest not in held]


def keep(tx: Transaction, registry: Registry, repository_id: int, digests: Iterable[Digest]) -> None:
    """Promise again that these links stay for a day, where the last promise is older than an hour."""
    until = registry.clock.now() + registry.rules.keep_seconds
    for some in _batches(list(digests)):
        marks = ",".join("?" * len(some))
        tx.run(
            f"UPDATE links SET keep_until = ? WHERE repository_id = ? AND keep_until < ? AND digest IN ({marks})",  # noqa: S608 (marks only)
            (until, repository_id, until - registry.rules.keep_renewal_seconds, *some),
        )


def _batches(digests: list[Digest]) -> Iterator[list[Digest]]:
    """The digests in lists that fit into one statement, whose texts are few, so that they are prepared once."""
    for first in range(0, len(digests), DIGESTS_MAX):
        yield digests[first : first + DIGESTS_MAX]


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


def _readable_source(tx: Transaction, digest: Digest, readable: Callable[[str], bool]) -> str | None:
    rows = tx.all("SELECT repository FROM held_blobs WHERE digest = ? LIMIT ?", (digest, MOUNT_SOURCES_MAX))
    return next((name for (name,) in rows if readable(name)), None)


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
    unlink(tx, repository_id, digest)
    events.append(tx, registry.clock, "blob.deleted", origin, repository=repository, digest=digest)


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
    readable: Callable[[str], bool],
) -> Blob | None:
    """Link a blob of another repository here, without its bytes moving; None where that can't be.

    `readable` tells whether the caller may pull from a repository: what they may not read is not there for them
    (CVE-2024-39897). Without a `source` any repository will do that they may read.
    """
    registry.check_writable()
    if source is None:
        source = await registry.db.read(_readable_source, digest, readable)
    elif not readable(source):
        source = None
    blob = await registry.db.read(find, source, digest) if source is not None else None
    if source is None or blob is None or not await is_whole(registry, blob):
        return None
    return await registry.db.write(_mount, registry, origin, repository, digest, source)


async def delete(registry: Registry, origin: Origin, repository: str, digest: Digest) -> None:
    """Take the blob out of this repository. Raises `BlobUnknown`, or `ReferencedByManifest` while one names it."""
    registry.check_writable()
    await registry.db.write(_delete, registry, origin, repository, digest)
