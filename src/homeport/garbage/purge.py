"""Purging the trash before its time, because a person wants the room, or wants something to be gone.

Holds:
- What is still listed afterwards can still be brought back: nothing goes that another listed manifest needs.
- Rows go in the order in which they came, so a purge that breaks off leaves no manifest without what it names; and
  before their bytes, which go at once, or with the next sweep.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from homeport import events
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.garbage import sweep
from homeport.oci import manifest as oci_manifest
from homeport.oci.digest import Digest
from homeport.oci.errors import NotInTrash, ReferencedByManifest
from homeport.registry import blobs, trash
from homeport.registry.registry import Registry
from homeport.registry.trash import TrashedBlob, TrashedLink

#: How much goes in one transaction, and how much is looked up at once.
_BATCH: Final = 100
_PAGE: Final = 1_000

#: What each manifest in the trash names.
Names: TypeAlias = Mapping[Digest, Collection[Digest]]


@dataclass(slots=True)
class Purged:
    """What went for good."""

    things: int = 0
    bytes: int = 0
    #: Bytes that are still in their place. The sweep takes them within minutes.
    later_bytes: int = 0
    failed: list[tuple[TrashedBlob, Exception]] = field(default_factory=list)


# --- decisions --------------------------------------------------------------------------------------------------


def forgettable(listed: Collection[Digest], names: Names, chosen: Collection[Digest]) -> set[Digest]:
    """What of a repository's trash goes with what was chosen: that, and what only it needs; not what others need."""
    goes = _reached(chosen, listed, names)
    needed = _reached((digest for digest in names if digest not in goes), listed, names)
    return goes - needed


def _reached(begin: Iterable[Digest], listed: Collection[Digest], names: Names) -> set[Digest]:
    """What is listed of `begin` and of all that it names, and that names, each looked at once."""
    waiting = [digest for digest in begin if digest in listed]
    seen = set(waiting)
    while waiting:
        for digest in names.get(waiting.pop(), ()):
            if digest in listed and digest not in seen:
                seen.add(digest)
                waiting.append(digest)
    return seen


# --- flows ------------------------------------------------------------------------------------------------------


async def choose(
    registry: Registry, repository: str | None, digest: Digest | None = None, before: float = math.inf
) -> list[TrashedLink]:
    """What a purge of one thing, of a repository, or of all (None) would forget that was removed before `before`.

    Raises `NotInTrash` if the one thing is not there, `ReferencedByManifest` if another one needs it.
    """
    found: list[TrashedLink] = []
    repositories = [repository] if repository is not None else await _repositories(registry)
    for name in repositories:
        found += await _choose(registry, name, digest, before)
    return found


async def _choose(registry: Registry, repository: str, digest: Digest | None, before: float) -> list[TrashedLink]:
    # What comes while we read stays: it may be needed by something that came unseen.
    newest = await registry.db.read(trash.newest_id)
    listed = {link.digest: link for link in await _listed(registry, repository) if link.id <= newest}
    chosen = {link.digest for link in listed.values() if link.removed_at < before and digest in (link.digest, None)}
    if digest is not None and not chosen:
        raise NotInTrash(f"{repository}@{digest}")
    names = await _names(registry, listed.values())
    goes = forgettable(listed, names, chosen)
    if digest is not None and digest not in goes:
        parent = next(one for one in names if one != digest and digest in names[one])
        raise ReferencedByManifest(f"{parent} in the trash names it")
    return sorted((listed[one] for one in goes), key=lambda link: link.id)


async def purge(registry: Registry, origin: Origin, links: list[TrashedLink]) -> Purged:
    """Forget these, as `choose` gave them, and purge the bytes that nothing else needs."""
    registry.check_writable()
    purged = Purged()
    for first in range(0, len(links), _BATCH):
        some = links[first : first + _BATCH]
        count, later = await registry.db.write(_forget, registry, origin, some)
        purged.things += count
        purged.later_bytes += later
        for link in some:
            await _purge_bytes(registry, link.digest, purged)
    return purged


async def _purge_bytes(registry: Registry, digest: Digest, purged: Purged) -> None:
    found = await registry.db.read(trash.bytes_of, digest)
    went = await sweep.purge_these(registry, found, math.inf)
    purged.failed += went.failed
    purged.bytes += sum(blob.size or 0 for blob in went.blobs)


async def _repositories(registry: Registry) -> list[str]:
    names: list[str] = []
    while page := await registry.db.read(trash.repositories, names[-1] if names else "", _PAGE):
        names += page
    return names


async def _listed(registry: Registry, repository: str) -> list[TrashedLink]:
    listed: list[TrashedLink] = []
    while page := await registry.db.read(
        trash.links, repository, (repository, listed[-1].digest if listed else ""), _PAGE
    ):
        listed += page
    return listed


async def _names(registry: Registry, links: Iterable[TrashedLink]) -> dict[Digest, tuple[Digest, ...]]:
    """What the manifests among these name. One that is brought back meanwhile needs nothing of the trash any more."""
    names: dict[Digest, tuple[Digest, ...]] = {}
    for link in links:
        if link.media_type is not None:
            stored = await registry.db.read(trash.manifest_data, link.repository, link.digest)
            if stored is not None:
                media_type, data = stored
                parsed = oci_manifest.parse(data, media_type)
                names[link.digest] = tuple({reference.digest for reference in parsed.references})
    return names


# --- facts ------------------------------------------------------------------------------------------------------


def _forget(tx: Transaction, registry: Registry, origin: Origin, links: list[TrashedLink]) -> tuple[int, int]:
    """Forget these, but for what was brought back since; how many went, and how many bytes are still in their place."""
    later = 0
    went: dict[str, int] = {}
    for link in links:
        if not trash.forget(tx, link):
            continue
        went[link.repository] = went.get(link.repository, 0) + 1
        if not trash.is_listed(tx, link.digest):
            trash.hurry(tx, link.digest)
            later += blobs.purge(tx, registry, link.digest)
    for repository, count in went.items():
        events.append(tx, registry.clock, "trash.purged", origin, repository=repository, detail={"things": count})
    return sum(went.values()), later
