"""Manifests and indexes, and what they name. Owns the tables `manifests` and `manifest_references`.

Holds:
- A manifest is here only if everything that it names is, in the same repository; the exceptions are layers that are
  never distributed, its subject (which may come later), the children of an index where the rules allow it, and what a
  mirror says may be missing.
- Its bytes are a durable blob before its row offers them, as with every blob, so a lost database can be made again;
  they also stand in the row, from which they are served.
- Manifest, references, tags, their history and the events of it all are one transaction.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from homeport import events
from homeport.db import batches
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.oci import manifest as oci_manifest
from homeport.oci.companions import SUBJECT_CHARACTERS
from homeport.oci.digest import Digest
from homeport.oci.errors import (
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestTooLarge,
    ManifestUnknown,
    ReferencedByManifest,
)
from homeport.oci.manifest import Manifest, Role
from homeport.registry import blobs, quotas, repositories, reviews, tags
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry

#: How many manifests and tags that belong to one that goes are looked at together with it.
COMPANIONS_MAX = 1_000


class Stored(NamedTuple):
    """A manifest as it is served: `data` is what was pushed, to the byte."""

    digest: Digest
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push."""

    digest: Digest
    subject: Digest | None


# --- facts ------------------------------------------------------------------------------------------------------


def by_tag(tx: Transaction, repository: str, tag: str) -> Stored | None:
    """The manifest that the tag points at."""
    row = tx.one(
        "SELECT digest, media_type, data FROM tagged_manifests WHERE repository = ? AND tag = ?", (repository, tag)
    )
    return Stored(*row) if row else None


def by_digest(tx: Transaction, repository: str, digest: str) -> Stored | None:
    """The manifest of this digest."""
    row = tx.one(
        "SELECT digest, media_type, data FROM held_manifests WHERE repository = ? AND digest = ?", (repository, digest)
    )
    return Stored(*row) if row else None


def has(tx: Transaction, repository: str, digest: Digest) -> bool:
    """Whether the repository offers the manifest."""
    return _find_id(tx, repository, digest) is not None


def beginning_with(tx: Transaction, repository_id: int, text: str) -> Digest | None:
    """A manifest that the repository offers whose digest this is, or the beginning of it."""
    row = tx.one(
        "SELECT digest FROM held_manifests WHERE repository_id = ? AND digest >= ? AND digest < ? LIMIT 1",
        (repository_id, text, f"{text}g"),
    )
    return Digest(row[0]) if row else None


def _find_id(tx: Transaction, repository: str, digest: Digest) -> int | None:
    row = tx.one("SELECT id FROM held_manifests WHERE repository = ? AND digest = ?", (repository, digest))
    return row[0] if row else None


def size_named(tx: Transaction, repository: str, digest: Digest) -> int | None:
    """How many bytes this has, by a manifest of the repository that names it; None where none does."""
    row = tx.one(
        "SELECT h.media_type, h.data FROM manifest_references f JOIN held_manifests h"
        " ON h.repository_id = f.repository_id AND h.digest = f.manifest"
        " WHERE h.repository = ? AND f.digest = ? LIMIT 1",
        (repository, digest),
    )
    if row is None:
        return None
    references = oci_manifest.parse(row[1], row[0]).references
    return next(reference.size for reference in references if reference.digest == digest)


def lacking(tx: Transaction, repository_id: int, digest: Digest) -> list[str]:
    """What the manifest names and the repository does not offer."""
    rows = tx.all(
        "SELECT DISTINCT digest FROM manifest_references f WHERE repository_id = ? AND manifest = ? AND NOT EXISTS"
        " (SELECT 1 FROM held_blobs h WHERE h.repository_id = f.repository_id AND h.digest = f.digest)"
        " ORDER BY digest",
        (repository_id, digest),
    )
    return [named for (named,) in rows]


def tag(tx: Transaction, registry: Registry, origin: Origin, repository: str, digest: Digest, name: str) -> bool:
    """Set a tag on a manifest that the repository has; False if it does not. Raises `TagImmutable`."""
    tx.lock([digest])
    repository_id, manifest_id = repositories.find(tx, repository), _find_id(tx, repository, digest)
    if repository_id is None or manifest_id is None:
        return False
    blobs.keep(tx, registry, repository_id, [digest])
    tags.set_tag(tx, registry, origin, repository, repository_id, name, manifest_id, digest)
    return True


def _check_references(
    tx: Transaction, registry: Registry, repository: str, manifest: Manifest, may_lack: Container[str]
) -> list[Digest]:
    """The digests that the manifest names and the repository holds, locked; `ManifestBlobUnknown` if one is missing."""
    named = [reference for reference in manifest.references if reference.must_be_held]
    absent = set(blobs.missing(tx, repository, (reference.digest for reference in named)))
    absent.update(
        reference.digest
        for reference in named
        if reference.is_manifest and _find_id(tx, repository, reference.digest) is None
    )
    for reference in named:
        sparse = reference.role is Role.CHILD and registry.rules.is_sparse(repository)
        if reference.digest in absent and not sparse and reference.digest not in may_lack:
            raise ManifestBlobUnknown(f"{reference.role} {reference.digest}")
    return [reference.digest for reference in named if reference.digest not in absent]


def _prepare(
    tx: Transaction,
    registry: Registry,
    repository: str,
    digest: Digest,
    manifest: Manifest,
    names: Sequence[str],
    upload: str,
    may_lack: Container[str],
) -> Blob | None:
    # Before a byte is written: most refused manifests are refused here.
    tags.check_movable(tx, registry, repository, names, digest)
    _check_references(tx, registry, repository, manifest, may_lack)
    quotas.check(tx, registry, repository, digest, len(manifest.data))
    return blobs.hold(tx, registry, digest, upload)


def _record(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository: str,
    blob: Blob,
    manifest: Manifest,
    names: Sequence[str],
    upload: str,
    may_lack: Container[str],
) -> None:
    held = _check_references(tx, registry, repository, manifest, may_lack)
    repository_id = blobs.offer(tx, registry, repository, blob, upload)
    manifest_id = _find_id(tx, repository, blob.digest)
    if manifest_id is None:
        manifest_id = _insert(tx, registry, repository_id, blob.digest, manifest)
        events.append(tx, registry.clock, "manifest.pushed", origin, repository=repository, digest=blob.digest)
    blobs.keep(tx, registry, repository_id, held)
    for name in names:
        tags.set_tag(tx, registry, origin, repository, repository_id, name, manifest_id, blob.digest)


def _insert(tx: Transaction, registry: Registry, repository_id: int, digest: Digest, manifest: Manifest) -> int:
    row = tx.one(
        "INSERT INTO manifests (repository_id, digest, media_type, artifact_type, subject, data, pushed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            repository_id,
            digest,
            manifest.media_type,
            manifest.artifact_type,
            manifest.subject,
            manifest.data,
            registry.clock.now(),
        ),
    )
    for reference in manifest.references:
        tx.run(
            "INSERT INTO manifest_references (repository_id, manifest, digest, role) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (repository_id, digest, reference.digest, reference.role),
        )
    assert row is not None
    manifest_id: int = row[0]
    return manifest_id


def _retag(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository: str,
    digest: Digest,
    manifest: Manifest,
    names: Sequence[str],
    may_lack: Container[str],
) -> bool:
    """Set tags on a manifest that the repository has already; False if it does not."""
    tx.lock([digest])
    repository_id = repositories.find(tx, repository)
    blob = blobs.find(tx, repository, digest)
    manifest_id = _find_id(tx, repository, digest)
    if repository_id is None or blob is None or manifest_id is None:
        return False
    held = _check_references(tx, registry, repository, manifest, may_lack)
    blobs.keep(tx, registry, repository_id, [digest, *held])
    for name in names:
        tags.set_tag(tx, registry, origin, repository, repository_id, name, manifest_id, digest)
    return True


def take_out(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository: str,
    repository_id: int,
    digest: Digest,
    *,
    reason: str | None = None,
    swept: bool = False,
) -> None:
    """Stop offering the manifest here, with every tag that points at it. The caller knows that no other one names it.

    What it named begins its grace now, but where it was `swept`: then that has been over as long as its own.
    """
    row = tx.one(
        "SELECT id, media_type, data FROM manifests WHERE repository_id = ? AND digest = ?", (repository_id, digest)
    )
    if row is None:
        raise ManifestUnknown(digest)
    manifest_id, media_type, data = row
    lacked = lacking(tx, repository_id, digest)
    for tag in tags.of_manifest(tx, manifest_id):
        why = reason if swept else "its manifest was deleted"
        tags.remove(tx, registry, origin, repository, repository_id, tag, reason=why)
    if swept:
        reviews.look_at_named(tx, repository_id, digest, registry.clock.now())
    else:
        named = tx.all(
            "SELECT DISTINCT digest FROM manifest_references WHERE repository_id = ? AND manifest = ?",
            (repository_id, digest),
        )
        for (target,) in named:
            blobs.release(tx, registry, repository_id, target)
    tx.run("DELETE FROM manifests WHERE id = ?", (manifest_id,))
    for companion in companions_of(tx, repository_id, digest):
        blobs.look_at(tx, registry, repository_id, companion)
    manifest = (media_type, data)
    blobs.take_out(
        tx, registry, origin, repository, repository_id, digest, reason=reason, manifest=manifest, lacked=lacked
    )


def has_all(tx: Transaction, repository: str, digests: Iterable[Digest]) -> bool:
    """Whether the repository has these manifests and, at any depth, each single thing that they name.

    What is never distributed, and the children that a sparse index leaves out, count as lacking.
    """
    repository_id = repositories.find(tx, repository)
    return repository_id is not None and all(
        _lacks_nothing(tx, repository_id, some, marks) for some, marks in batches.of(dict.fromkeys(digests))
    )


def _lacks_nothing(tx: Transaction, repository_id: int, digests: list[Digest], marks: str) -> bool:
    counted = tx.one(
        f"SELECT count(*) FROM held_manifests WHERE repository_id = ? AND digest IN ({marks})",  # noqa: S608 (marks only)
        (repository_id, *digests),
    )
    assert counted is not None
    if counted[0] < len(digests):
        return False
    lacking = tx.one(
        "WITH RECURSIVE named (digest, role) AS ("  # noqa: S608 (marks only)
        f"SELECT digest, role FROM manifest_references WHERE repository_id = ? AND manifest IN ({marks})"
        " UNION SELECT f.digest, f.role FROM named n"
        " JOIN manifest_references f ON f.repository_id = ? AND f.manifest = n.digest)"
        " SELECT 1 FROM named n WHERE NOT EXISTS"
        " (SELECT 1 FROM held_blobs b WHERE b.repository_id = ? AND b.digest = n.digest)"
        " OR (n.role = ? AND NOT EXISTS"
        " (SELECT 1 FROM manifests m WHERE m.repository_id = ? AND m.digest = n.digest)) LIMIT 1",
        (repository_id, *digests, repository_id, repository_id, Role.CHILD, repository_id),
    )
    return lacking is None


def newest_id(tx: Transaction, repository_id: int) -> int:
    """The id of the manifest that the repository got last; 0: it has none. Ids grow."""
    row = tx.one("SELECT coalesce(max(id), 0) FROM manifests WHERE repository_id = ?", (repository_id,))
    assert row is not None
    found: int = row[0]
    return found


def tops(tx: Transaction, repository_id: int, newest: int, after: str, limit: int) -> list[Digest]:
    """At most `limit` manifests behind `after`, not newer than `newest`, that no tag and no other one here names."""
    rows = tx.all(
        "SELECT digest FROM manifests m WHERE repository_id = ? AND digest > ? AND id <= ? AND NOT EXISTS"
        " (SELECT 1 FROM manifest_references f WHERE f.repository_id = m.repository_id AND f.digest = m.digest)"
        " AND NOT EXISTS (SELECT 1 FROM tag_targets t WHERE t.manifest_id = m.id)"
        " ORDER BY digest LIMIT ?",
        (repository_id, after, newest, limit),
    )
    return [Digest(digest) for (digest,) in rows]


def is_top(tx: Transaction, repository_id: int, newest: int, digest: Digest) -> bool:
    """Whether it is one of `tops`. Locks it against those who would name it."""
    tx.lock([digest], exclusive=True)
    return bool(
        tx.one(
            "SELECT 1 FROM manifests m WHERE repository_id = ? AND digest = ? AND id <= ? AND NOT EXISTS"
            " (SELECT 1 FROM manifest_references f WHERE f.repository_id = m.repository_id AND f.digest = m.digest)"
            " AND NOT EXISTS (SELECT 1 FROM tag_targets t WHERE t.manifest_id = m.id)",
            (repository_id, digest, newest),
        )
    )


def companions_of(tx: Transaction, repository_id: int, digest: Digest) -> list[Digest]:
    """What belongs to the manifest: those whose subject it is, and those under tags that name it.

    The daily walk finds those beyond `COMPANIONS_MAX`.
    """
    rows = tx.all(
        "SELECT digest FROM subject_manifests WHERE repository_id = ? AND subject = ? LIMIT ?",
        (repository_id, digest, COMPANIONS_MAX),
    )
    rows += tx.all(
        # The sign keeps SQLite from walking along all tags of the repository instead.
        "SELECT digest FROM subject_tags WHERE subject IN (?, ?) AND +repository_id = ? LIMIT ?",
        (digest, digest[:SUBJECT_CHARACTERS], repository_id, COMPANIONS_MAX),
    )
    return [Digest(companion) for (companion,) in rows]


def _delete(tx: Transaction, registry: Registry, origin: Origin, repository: str, digest: Digest) -> None:
    repository_id = repositories.find(tx, repository)
    if repository_id is None:
        raise ManifestUnknown(digest)
    parent = tx.one(
        "SELECT manifest FROM manifest_references WHERE repository_id = ? AND digest = ? LIMIT 1",
        (repository_id, digest),
    )
    if parent:
        raise ReferencedByManifest(f"{digest} is named by {parent[0]}")
    take_out(tx, registry, origin, repository, repository_id, digest)


# --- flows ------------------------------------------------------------------------------------------------------


async def get(registry: Registry, repository: str, reference: str) -> Stored:
    """The manifest by tag or digest, or `ManifestUnknown`."""
    fact = by_digest if ":" in reference else by_tag
    stored = await registry.db.read(fact, repository, reference)
    if stored is None:
        raise ManifestUnknown(f"{repository}:{reference}" if fact is by_tag else reference)
    return stored


async def push(
    registry: Registry,
    origin: Origin,
    repository: str,
    data: bytes,
    content_type: str,
    digest: Digest,
    names: Sequence[str],
    *,
    may_lack: Container[str] = (),
) -> Pushed:
    """Store a manifest under the digest that the client gave it, and set tags on it; all or nothing.

    `may_lack`: digests that it may name though they are not here, which only a mirror says: the platforms that it
    leaves out, or what comes from upstream when somebody asks for it. Raises `TagImmutable` where one of the tags
    points at another and never changes.
    """
    registry.check_writable()
    if len(data) > registry.rules.manifest_bytes_max:
        raise ManifestTooLarge(f"{len(data)} bytes, at most {registry.rules.manifest_bytes_max} are accepted")
    actual = Digest.of(data, digest.algorithm)
    if actual != digest:
        raise DigestInvalid(f"the {len(data)} bytes that came are {actual}")
    manifest = oci_manifest.parse(data, content_type)
    if await registry.db.read(_find_id, repository, digest) is not None:
        # Mostly a new tag for what is here, whole.
        tagged = await _is_whole(registry, repository, digest, len(data)) and await registry.db.write(
            _retag, registry, origin, repository, digest, manifest, names, may_lack
        )
        if tagged:
            return Pushed(digest, manifest.subject)
    await _store(registry, origin, repository, digest, manifest, names, may_lack)
    return Pushed(digest, manifest.subject)


async def delete(registry: Registry, origin: Origin, repository: str, digest: Digest) -> None:
    """Take the manifest out of the repository, with every tag that points at it.

    Raises `ManifestUnknown`, `TagImmutable`, or `ReferencedByManifest` while an index of the repository names it.
    """
    registry.check_writable()
    await registry.db.write(_delete, registry, origin, repository, digest)


async def _is_whole(registry: Registry, repository: str, digest: Digest, size: int) -> bool:
    """Whether the manifest's file is there in its size. If it is not, pushing it again puts it back."""
    blob = await registry.db.read(blobs.find, repository, digest)
    return blob is not None and await registry.blobs.stat(blob.location) == size


async def _store(
    registry: Registry,
    origin: Origin,
    repository: str,
    digest: Digest,
    manifest: Manifest,
    names: Sequence[str],
    may_lack: Container[str],
) -> None:
    upload = registry.clock.new_id()
    present = await registry.db.jot(_prepare, registry, repository, digest, manifest, names, upload, may_lack)
    if present is not None and await registry.blobs.stat(present.location) == len(manifest.data):
        blob = present
    else:
        blob = Blob(digest, len(manifest.data), await registry.blobs.put(digest, manifest.data))
    try:
        await registry.db.write(_record, registry, origin, repository, blob, manifest, names, upload, may_lack)
    except BlobUploadUnknown:
        raise ManifestUnknown("it took too long to store it; push it again") from None
