"""Bringing back what was deleted: a manifest with all that it needs, a blob, a tag as it was.

Holds: what comes back comes through the doors of a push (`manifests.push`, a write hold, `blobs.offer`), parts before
the whole, so nothing is offered that is not there and a crash leaves no more than parts that nobody names. Bytes are
taken back from the trash, or linked where another repository still has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from homeport import events
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.oci import manifest as oci_manifest
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, BlobUploadUnknown, ManifestUnknown, NotInTrash
from homeport.oci.manifest import Manifest
from homeport.registry import blobs, manifests, tags, trash
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry
from homeport.registry.tags import Change
from homeport.registry.trash import TrashedBlob
from homeport.storage.blobstore import BlobMissing

#: How many manifests one that is brought back may need: an index of indexes of every platform has a few dozen.
MANIFESTS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where the bytes of a digest may be."""

    present: Blob | None
    trashed: Sequence[TrashedBlob]


# --- facts ------------------------------------------------------------------------------------------------------


def _manifest(tx: Transaction, repository: str, digest: Digest) -> tuple[str, bytes] | None:
    """Media type and bytes of a manifest that the repository has, or had."""
    stored = manifests.by_digest(tx, repository, digest)
    return (stored.media_type, stored.data) if stored else trash.manifest_data(tx, repository, digest)


def _had(tx: Transaction, repository: str, digest: Digest) -> bool:
    """Whether the repository offers this, or did and it is still listed."""
    return blobs.find(tx, repository, digest) is not None or trash.find_link(tx, repository, digest) is not None


def _hold(tx: Transaction, registry: Registry, digest: Digest, upload: str) -> _Sources:
    blobs.hold(tx, registry, digest, upload)
    return _Sources(blobs.placed(tx, digest), [*blobs.on_the_way(tx, registry, digest), *trash.bytes_of(tx, digest)])


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
    """Let the repository offer this again, with all that it needs, and set tags on it. Raises `NotInTrash`.

    What is here already stays, so a restore that broke off is simply done again.
    """
    registry.check_writable()
    found = await registry.db.read(_manifest, repository, digest)
    if found is None:
        # The bytes of a manifest may be kept for longer than what made a manifest of them.
        if names or not await registry.db.read(_had, repository, digest):
            raise NotInTrash(digest)
        await _restore_blob(registry, origin, repository, digest)
        return
    for one in await _needed(registry, repository, digest, found):
        manifest_names = names if one.digest == digest else ()
        for blob in one.blobs:
            await _restore_blob(registry, origin, repository, blob)
        await manifests.push(
            registry, origin, repository, one.manifest.data, one.manifest.media_type, one.digest, manifest_names
        )


async def restore_tag(registry: Registry, origin: Origin, repository: str, name: str, at: float | None) -> Digest:
    """Let the tag point at what it did at the time `at`, or before its last change (None); that digest.

    Raises `ManifestUnknown` if it pointed at nothing then, `NotInTrash` if that cannot be brought back any more.
    """
    registry.check_writable()
    history = await registry.db.read(tags.history, repository, name)
    digest = _pointed_at(history, at)
    if digest is None:
        when = "before its last change" if at is None else "at that time"
        raise ManifestUnknown(f"{repository}:{name} pointed at nothing {when}")
    await restore(registry, origin, repository, digest, [name])
    return digest


def _pointed_at(history: Sequence[Change], at: float | None) -> Digest | None:
    """What the history, the newest first, says of that time; None: of the time before the last change."""
    if at is None:
        return history[1].digest if len(history) > 1 else None
    return next((change.digest for change in history if change.changed_at <= at), None)


@dataclass(frozen=True, slots=True)
class _Part:
    digest: Digest
    manifest: Manifest
    blobs: list[Digest]


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
        part = parts[one] = _Part(one, manifest, [])
        waiting.append((one, None))
        for reference in manifest.references:
            child = await registry.db.read(_manifest, repository, reference.digest) if reference.is_manifest else None
            if child is not None:
                waiting.append((reference.digest, child))
            elif reference.must_be_held and not reference.is_manifest:
                part.blobs.append(reference.digest)
    return [parts[one] for one in order]


async def _restore_blob(registry: Registry, origin: Origin, repository: str, digest: Digest) -> None:
    """Link a blob here whose bytes are in the trash, or still in their place."""
    with suppress(BlobUnknown):
        # What is here may be about to go: it is promised anew, until what needs it is back.
        known = await blobs.get_and_keep(registry, repository, digest)
        if await blobs.is_whole(registry, known):
            return
    upload = registry.clock.new_id()
    sources = await registry.db.write(_hold, registry, digest, upload)
    blob, taken = await _place(registry, digest, sources)
    try:
        await registry.db.write(_offer, registry, origin, repository, upload, blob, taken)
    except BlobUploadUnknown:
        raise NotInTrash(f"it took too long to bring {digest} back; try again") from None


async def _place(registry: Registry, digest: Digest, sources: _Sources) -> tuple[Blob, TrashedBlob | None]:
    """The bytes in their place, durably, and what was taken from the trash for that."""
    present = sources.present
    if present is not None and await registry.blobs.stat(present.location) == present.size:
        return present, None
    for trashed in sources.trashed:
        try:
            location = await registry.blobs.restore(trashed.location, digest)
        except BlobMissing:
            continue
        size = await registry.blobs.stat(location)
        assert size is not None
        return Blob(digest, size, location), trashed
    raise NotInTrash(digest)
