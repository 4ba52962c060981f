"""Deleting a repository: everything that it offers goes to the trash, in steps that keep nobody waiting.

Holds:
- Only what was there when it began is taken away. What is pushed meanwhile stays, with all that it names.
- Tags go first, then manifests from the top, then what no manifest names: at no moment does anything name what is gone.
- A deletion that broke off is simply done again. The repository leaves the catalogue with the last thing that it had.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from homeport import events
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import NameUnknown
from homeport.registry import blobs, manifests, protections, repositories, tags
from homeport.registry.registry import Registry

#: Why a thing is in the trash, and a tag is gone. A restore knows by it which tags went with their repository.
REASON: Final = "its repository was deleted"

#: How many tags or blobs go in one transaction; of manifests fewer, since each names many things.
_BATCH: Final = 100
_MANIFESTS: Final = 16
#: How many are looked up at once.
_PAGE: Final = 1_000
#: How many uses are told.
_USES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Contents:
    """What a repository holds at a moment."""

    repository: str
    repository_id: int
    tags: int
    manifests: int
    #: Manifests and all else.
    blobs: int
    bytes: int
    #: Those that no other repository holds.
    own_bytes: int
    #: Who runs some of it, as sentences.
    in_use: list[str]
    #: What tells it from what comes later.
    newest_manifest: int
    seen_at: float


@dataclass(slots=True)
class Removed:
    """What went to the trash. `stays`: something was pushed meanwhile, so the repository is still there."""

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    stays: bool = False


# --- facts ------------------------------------------------------------------------------------------------------


def contents(tx: Transaction, registry: Registry, repository: str) -> Contents:
    """What the repository holds. Raises `NameUnknown`."""
    repository_id = repositories.find(tx, repository)
    if repository_id is None:
        raise NameUnknown(repository)
    held = tx.one(
        "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(CASE WHEN EXISTS (SELECT 1 FROM held_blobs o"
        " WHERE o.digest = h.digest AND o.repository_id <> h.repository_id) THEN 0 ELSE size END), 0)"
        " FROM held_blobs h WHERE repository_id = ?",
        (repository_id,),
    )
    listed = tx.one("SELECT count(*) FROM held_manifests WHERE repository_id = ?", (repository_id,))
    assert held is not None
    assert listed is not None
    return Contents(
        repository,
        repository_id,
        tags=tags.count(tx, repository_id),
        manifests=listed[0],
        blobs=held[0],
        bytes=held[1],
        own_bytes=held[2],
        in_use=_uses(tx, repository_id),
        newest_manifest=manifests.newest_id(tx, repository_id),
        seen_at=registry.clock.now(),
    )


def _uses(tx: Transaction, repository_id: int) -> list[str]:
    rows = tx.all(
        "SELECT p.digest FROM protected_digests p JOIN held_blobs h ON h.digest = p.digest"
        " WHERE h.repository_id = ? ORDER BY p.digest LIMIT ?",
        (repository_id, _USES_MAX),
    )
    reasons = (protections.why(tx, digest) for (digest,) in rows)
    return list(dict.fromkeys(reason for reason in reasons if reason is not None))


def _begin(tx: Transaction, registry: Registry, origin: Origin, repository: str) -> Contents:
    found = contents(tx, registry, repository)
    events.append(tx, registry.clock, "repository.deleted", origin, repository=repository)
    return found


def _remove_tags(tx: Transaction, registry: Registry, origin: Origin, there: Contents) -> int:
    page = tags.of_old_manifests(tx, there.repository_id, there.newest_manifest, there.seen_at, _BATCH)
    for tag in page:
        tags.remove(tx, registry, origin, there.repository, there.repository_id, tag, reason=REASON)
    return len(page)


def _remove_manifests(
    tx: Transaction, registry: Registry, origin: Origin, there: Contents, digests: list[Digest]
) -> int:
    count = 0
    for digest in digests:
        if manifests.is_top(tx, there.repository_id, there.newest_manifest, digest):
            manifests.take_out(tx, registry, origin, there.repository, there.repository_id, digest, reason=REASON)
            count += 1
    return count


def _remove_blobs(tx: Transaction, registry: Registry, origin: Origin, there: Contents, digests: list[Digest]) -> int:
    count = 0
    for digest in digests:
        if blobs.is_loose(tx, there.repository_id, digest):
            blobs.take_out(tx, registry, origin, there.repository, there.repository_id, digest, reason=REASON)
            count += 1
    return count


# --- flows ------------------------------------------------------------------------------------------------------


async def delete(registry: Registry, origin: Origin, repository: str) -> Removed:
    """Delete the repository. Raises `NameUnknown`, and `TagImmutable` before anything goes if a tag never changes."""
    registry.check_writable()
    await _check_tags(registry, repository)
    there = await registry.db.write(_begin, registry, origin, repository)
    removed = Removed()
    while count := await registry.db.write(_remove_tags, registry, origin, there):
        removed.tags += count
    # Once for each level of indexes in indexes.
    while count := await _each_page(
        lambda after: registry.db.read(manifests.tops, there.repository_id, there.newest_manifest, after, _PAGE),
        lambda some: registry.db.write(_remove_manifests, registry, origin, there, some),
        _MANIFESTS,
    ):
        removed.manifests += count
    removed.blobs = await _each_page(
        lambda after: registry.db.read(blobs.loose, there.repository_id, there.seen_at, after, _PAGE),
        lambda some: registry.db.write(_remove_blobs, registry, origin, there, some),
        _BATCH,
    )
    removed.stays = await registry.db.read(repositories.find, repository) is not None
    return removed


async def _check_tags(registry: Registry, repository: str) -> None:
    async for tag in _all_tags(registry, repository):
        tags.check_mutable(registry, repository, tag)


async def _all_tags(registry: Registry, repository: str) -> AsyncIterator[tags.Tag]:
    after = ""
    while page := await registry.db.read(tags.page, repository, after, _PAGE):
        for tag in page:
            yield tag
        after = page[-1].name


async def _each_page(
    page_of: Callable[[str], Awaitable[list[Digest]]], remove: Callable[[list[Digest]], Awaitable[int]], batch: int
) -> int:
    """Remove what the pages have, some at a time; how many those were."""
    count, after = 0, ""
    while page := await page_of(after):
        for first in range(0, len(page), batch):
            count += await remove(page[first : first + batch])
        after = page[-1]
    return count
