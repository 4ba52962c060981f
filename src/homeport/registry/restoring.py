"""Bringing back what was deleted: a manifest with all that it needs, a blob, a tag as it was.

Holds: what comes back comes through the doors of a push (`manifests.push`, a write hold, `blobs.offer`), parts before
the whole, so nothing is offered that is not there and a crash leaves no more than parts that nobody names. Bytes are
taken back from the trash, or linked where another repository still has them. What a mirror or a cache had here in part
comes back as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from homeport import events
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.oci import manifest as oci_manifest
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, BlobUploadUnknown, ManifestUnknown, NotInTrash, RegistryError, Unavailable
from homeport.oci.manifest import Descriptor, Manifest, Role
from homeport.registry import blobs, manifests, removal, repositories, tags, trash
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry
from homeport.registry.trash import TrashedBlob, TrashedLink
from homeport.storage.blobstore import BlobMissing, StorageError

#: How many manifests one that is brought back may need: an index of indexes of every platform has a few dozen.
MANIFESTS_MAX: Final = 10_000
#: How much of the trash is looked at at once.
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where the bytes of a digest may be: durably in their place, or where they have to be brought back from."""

    live: Blob | None
    trashed: Sequence[TrashedBlob]


@dataclass(slots=True)
class Restored:
    """What came back of a repository, and what did not, with the reason."""

    digests: list[Digest] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    failed: list[tuple[Digest, Exception]] = field(default_factory=list)


# --- facts ------------------------------------------------------------------------------------------------------


def _was_blob(tx: Transaction, repository: str, digest: Digest) -> bool:
    """Whether the repository offers, or offered, something under this digest."""
    return trash.find_link(tx, repository, digest) is not None or blobs.find(tx, repository, digest) is not None


def _manifest(tx: Transaction, repository: str, digest: Digest) -> tuple[str, bytes] | None:
    """Media type and bytes of a manifest that the repository has, or had."""
    stored = manifests.by_digest(tx, repository, digest)
    return (stored.media_type, stored.data) if stored else trash.manifest_data(tx, repository, digest)


def _lacked(tx: Transaction, repository: str, digest: Digest) -> frozenset[str]:
    """What the manifest names and was not here with it."""
    repository_id = repositories.find(tx, repository)
    if repository_id is not None and manifests.has(tx, repository, digest):
        return frozenset(manifests.lacking(tx, repository_id, digest))
    return trash.lacked(tx, repository, digest)


def has_manifest(tx: Transaction, repository: str, digest: Digest) -> bool:
    """Whether the repository has the manifest, or can have it back."""
    trashed = trash.find_link(tx, repository, digest)
    return (trashed is not None and trashed.media_type is not None) or manifests.has(tx, repository, digest)


def _hold(tx: Transaction, registry: Registry, digest: Digest, upload: str) -> _Sources:
    live = blobs.hold(tx, registry, digest, upload)
    return _Sources(live, [*blobs.on_the_way(tx, registry, digest), *trash.bytes_of(tx, digest)])


def _offer(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository: str,
    upload: str,
    blob: Blob,
    taken: TrashedBlob | None,
) -> None:
    new = blobs.find(tx, repository, blob.digest) is None
    blobs.offer(tx, registry, repository, blob, upload)
    if taken is not None:
        trash.forget_bytes(tx, taken.name)
    if new:
        events.append(tx, registry.clock, "blob.restored", origin, repository=repository, digest=blob.digest)


# --- flows ------------------------------------------------------------------------------------------------------


async def restore(
    registry: Registry, origin: Origin, repository: str, digest: Digest, names: Sequence[str] = ()
) -> None:
    """Let the repository offer this again, with all that it needs, and set tags on it.

    What is here already is left as it is, so a restore that broke off is simply done again. Raises `NotInTrash`, and
    `TagImmutable` before anything comes back.
    """
    registry.check_writable()
    found = await registry.db.read(_manifest, repository, digest)
    if found is None:
        if names or not await registry.db.read(_was_blob, repository, digest):
            raise NotInTrash(digest)
        await _restore_blob(registry, origin, repository, digest)
        return
    await registry.db.read(tags.check_movable, registry, repository, names, digest)
    for one in await _needed(registry, repository, digest, found):
        manifest_names = names if one.digest == digest else ()
        for blob in one.blobs:
            await _restore_blob(registry, origin, repository, blob)
        await manifests.push(
            registry,
            origin,
            repository,
            one.manifest.data,
            one.manifest.media_type,
            one.digest,
            manifest_names,
            may_lack=one.lacked,
        )


async def restore_tag(registry: Registry, origin: Origin, repository: str, name: str, at: float | None) -> Digest:
    """Let the tag point at what it did at the time `at`, or before its last change (None); that digest.

    Raises `ManifestUnknown` if it pointed at nothing then, `NotInTrash` if that cannot be brought back any more.
    """
    registry.check_writable()
    if at is None:
        digest = await registry.db.read(tags.pointed_at_before, repository, name)
    else:
        digest = await registry.db.read(tags.pointed_at, repository, name, at)
    if digest is None:
        when = "before its last change" if at is None else "at that time"
        raise ManifestUnknown(f"{repository}:{name} pointed at nothing {when}")
    await restore(registry, origin, repository, digest, [name])
    return digest


async def restore_repository(registry: Registry, origin: Origin, repository: str) -> Restored:
    """Let the repository offer again all that is in the trash of it, with the tags that went when it was deleted.

    One thing that cannot be brought back stops no other. Raises `NotInTrash` if there is nothing of it.
    """
    registry.check_writable()
    restored = Restored()
    names = await _deleted_tags(registry, repository)
    after = ""
    while page := await registry.db.read(trash.links, repository, (repository, after), _PAGE):
        for link in page:
            await _restore_listed(registry, origin, link, names.pop(link.digest, ()), restored)
        after = page[-1].digest
    for digest, tagged in names.items():  # Pushed again since, or brought back by a restore that broke off.
        if await registry.db.read(manifests.has, repository, digest):
            await _restore_one(registry, origin, repository, digest, tagged, restored)
    if not (restored.digests or restored.failed):
        raise NotInTrash(repository)
    return restored


async def _deleted_tags(registry: Registry, repository: str) -> dict[Digest, list[str]]:
    """The tags that went when the repository was deleted, by what they pointed at."""
    names: dict[Digest, list[str]] = {}
    after = ""
    while page := await registry.db.read(tags.deleted_for, repository, removal.REASON, after, _PAGE):
        for name, digest in page:
            names.setdefault(digest, []).append(name)
        after = page[-1][0]
    return names


async def _restore_listed(
    registry: Registry, origin: Origin, link: TrashedLink, names: Sequence[str], restored: Restored
) -> None:
    """Bring it back, unless something that needs it did, or somebody else."""
    found = await registry.db.read(trash.find_link, link.repository, link.digest)
    if names or found is not None:
        await _restore_one(registry, origin, link.repository, link.digest, names, restored)
    else:
        restored.digests.append(link.digest)


async def _restore_one(
    registry: Registry, origin: Origin, repository: str, digest: Digest, names: Sequence[str], restored: Restored
) -> None:
    try:
        await restore(registry, origin, repository, digest, names)
    except (RegistryError, StorageError) as error:
        restored.failed.append((digest, error))
    else:
        restored.digests.append(digest)
        restored.tags += names


@dataclass(frozen=True, slots=True)
class _Part:
    digest: Digest
    manifest: Manifest
    blobs: list[Digest]
    lacked: frozenset[str]


async def _needed(registry: Registry, repository: str, digest: Digest, found: tuple[str, bytes]) -> list[_Part]:
    """The manifest and those that it names, each after what it names, each once however often it is named."""
    parts: dict[Digest, _Part] = {}
    order: list[Digest] = []
    waiting: list[tuple[Digest, tuple[str, bytes] | None]] = [(digest, found)]
    while waiting:
        one, stored = waiting.pop()
        if stored is None:  # All that it names has been seen to.
            order.append(one)
            continue
        if one in parts:
            continue
        if len(parts) >= MANIFESTS_MAX:
            raise NotInTrash(f"{digest} needs more than {MANIFESTS_MAX} manifests")
        media_type, data = stored
        manifest = oci_manifest.parse(data, media_type)
        lacked = await registry.db.read(_lacked, repository, one)
        part = parts[one] = _Part(one, manifest, [], lacked)
        waiting.append((one, None))
        for reference in {(item.digest, item.is_manifest): item for item in manifest.references}.values():
            if not reference.is_manifest:
                part.blobs.extend([reference.digest] if await _is_needed(registry, repository, part, reference) else [])
            elif reference.digest not in parts:
                child = await registry.db.read(_manifest, repository, reference.digest)
                if child is not None:
                    waiting.append((reference.digest, child))
                elif reference.digest not in lacked and not registry.rules.is_sparse(repository):
                    raise NotInTrash(f"{one} needs {reference.digest}")
    return [parts[one] for one in order]


async def _is_needed(registry: Registry, repository: str, part: _Part, blob: Descriptor) -> bool:
    """Whether a blob comes back with the manifest. What was never here does not, wherever else it is."""
    if blob.digest in part.lacked:
        return False
    if blob.role is not Role.CHILD:
        return blob.must_be_held
    was_here = await registry.db.read(_was_blob, repository, blob.digest)
    if not was_here and not registry.rules.is_sparse(repository):
        raise NotInTrash(f"{part.digest} needs {blob.digest}")
    return was_here


async def _restore_blob(registry: Registry, origin: Origin, repository: str, digest: Digest) -> None:
    """Link a blob here whose bytes are in the trash, or still in their place."""
    if await _keep(registry, repository, digest):
        return
    upload = registry.clock.new_id()
    sources = await registry.db.write(_hold, registry, digest, upload)
    blob, taken = await _place(registry, digest, sources)
    try:
        await registry.db.write(_offer, registry, origin, repository, upload, blob, taken)
    except BlobUploadUnknown:
        raise Unavailable(f"it took too long to bring {digest} back") from None


async def _keep(registry: Registry, repository: str, digest: Digest) -> bool:
    """Whether the repository offers the blob, whole, which stays so for as long as a restore takes."""
    try:
        return await blobs.is_whole(registry, await blobs.get_and_keep(registry, repository, digest))
    except BlobUnknown:
        return False


async def _place(registry: Registry, digest: Digest, sources: _Sources) -> tuple[Blob, TrashedBlob | None]:
    """The bytes in their place, durably, and what was taken from the trash for that."""
    live = sources.live
    if live is not None and await registry.blobs.stat(live.location) == live.size:
        return live, None
    for trashed in sources.trashed:
        try:
            location = await registry.blobs.restore(trashed.location, digest)
        except BlobMissing:
            continue
        size = await registry.blobs.stat(location)
        if size is not None and trashed.size in (size, None):
            return Blob(digest, size, location), trashed
    raise NotInTrash(digest)
