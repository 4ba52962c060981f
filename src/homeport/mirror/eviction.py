"""What goes of the cache: tags that nobody pulled for long, and while it holds too much those that were pulled first.

Holds:
- Only a tag goes that was fetched because somebody asked, and that is still what was fetched. What a run copied, what
  somebody pushed, what is protected, immutable or in use stays.
- A tag goes in a transaction that finds it as it was when it was decided about: pulled or pushed meanwhile, it stays.
- What it pointed at goes as everything does that lost its last tag (`registry/standing.py`): so a layer that another
  image needs stays, and whoever pulls the tag before the grace is over finds everything still here.
- What upstream could not give back at the moment stays: nothing goes while the cache is offline.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from homeport.config.mirroring import Cache
from homeport.db.database import Transaction
from homeport.events import SYSTEM
from homeport.mirror import addresses, origins
from homeport.mirror.origins import TagOrigin
from homeport.observe import Log
from homeport.oci import companions
from homeport.oci.digest import Digest
from homeport.oci.errors import TagImmutable
from homeport.oci.manifest import Role
from homeport.registry import manifests, protections, repositories, standing, tags
from homeport.registry.registry import Registry
from homeport.registry.retention import span, why_protected

#: How often is looked for what may go.
STEP_SECONDS: Final = 3600.0
#: What was pulled within this time stays, however full the cache is: a node may be in the middle of it.
RECENT_SECONDS: Final = 3600.0
#: How many rows are read in one go, and how many tags go in one transaction, during which nobody else is served.
PAGE: Final = 100
BATCH: Final = 8
#: The record of a tag that is gone is dropped when it is older than this: a younger one may be of a tag that comes.
_STRAY_SECONDS: Final = 86_400.0

FULL: Final = "the cache holds more than cache.size, and this was pulled the longest ago"


class Pace(Protocol):
    """Gives way to requests: whoever cleans up rests after each step."""

    def begin(self) -> None:
        """A step begins."""

    async def rest(self) -> None:
        """It has ended."""


@dataclass(frozen=True, slots=True)
class CachedTag:
    """A tag that was fetched because somebody asked."""

    repository: str
    repository_id: int
    name: str
    digest: Digest
    #: When it was last fetched, pushed or pulled: itself, what it points at, or a platform of that.
    used_at: float

    @property
    def key(self) -> tuple[int, str]:
        """What tells it from all others."""
        return self.repository_id, self.name


@dataclass(slots=True)
class _Page:
    """Some of the cache's tags. `last`: where the next page begins; None: there is none."""

    tags: list[CachedTag] = field(default_factory=list)
    #: Records of tags that are not here any more.
    strays: list[TagOrigin] = field(default_factory=list)
    last: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Needed:
    """Some of what stays with a manifest: itself, what it names, what it is the subject of. `last` as of `_Page`."""

    #: How much of the cache's room each digest takes.
    sizes: list[tuple[str, int]]
    #: Those that need something themselves.
    manifests: list[str]
    last: str | None


# --- decisions --------------------------------------------------------------------------------------------------


def idle(found: Iterable[CachedTag], evict_after: float, now: float) -> list[CachedTag]:
    """Those that nobody used for so long."""
    since = now - max(evict_after, RECENT_SECONDS)
    return [tag for tag in found if tag.used_at < since]


def by_use(found: Iterable[CachedTag]) -> list[CachedTag]:
    """All of them, what was used last before what was used first."""
    return sorted(found, key=lambda tag: (-tag.used_at, tag.repository, tag.name))


class Room:
    """How much of the cache's room is taken, by what was used last first; each digest takes its own once."""

    def __init__(self, size: int, recent_since: float) -> None:
        self._size = size
        self._recent_since = recent_since
        self._taken: set[bytes] = set()
        self._is_full = False
        #: How many bytes those have that stay.
        self.used = 0

    def give(self, digests: Iterable[str]) -> None:
        """These are here for others' sake, and take nothing of the cache's room."""
        self._taken.update(map(_key, digests))

    def takes(self, used_at: float, sizes: Iterable[tuple[str, int]]) -> bool:
        """Whether a tag stays that needs these digests. Behind one that does not, only those stay that take no room."""
        new = {key: size for digest, size in sizes if (key := _key(digest)) not in self._taken}
        more = sum(new.values())
        is_recent = used_at >= self._recent_since
        if more and not is_recent and (self._is_full or self.used + more > self._size):
            self._is_full = True
            return False
        self._taken.update(new)
        self.used += more
        return True


def _key(digest: str) -> bytes:
    return bytes.fromhex(digest[7:])  # Behind `sha256:` or `sha512:`.


# --- flows ------------------------------------------------------------------------------------------------------


class Evictor:
    """Lets go of what the cache need not keep, again and again."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        pace: Pace,
        may_delete: Callable[[], Awaitable[bool]],
        settings: Callable[[], Cache],
        flush_pulls: Callable[[], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._log = log
        self._pace = pace
        self._may_delete = may_delete
        self._settings = settings
        self._flush_pulls = flush_pulls

    async def step(self) -> int:
        """Let go of all that may go now; how many tags that were. Raises `DatabaseError`."""
        cache, registry = self._settings(), self._registry
        if cache.offline or not await self._may_delete():
            return 0
        if await registry.db.read(protections.unknown_engines, registry.rules.engines):
            return 0  # Nobody knows what must stay.
        await self._flush_pulls()
        count = 0
        if cache.evict_after is not None:
            count += await self._evict_idle(cache.evict_after)
        if cache.size is not None:
            count += await self._evict_beyond(cache.size, sorted(addresses.folders(cache.upstreams)))
        if count:
            self._log.info("cache.evicted", tags=count)
        return count

    async def _evict_idle(self, evict_after: float) -> int:
        count, reason = 0, f"nobody pulled it for {span(max(evict_after, RECENT_SECONDS))}"
        async for page in self._pages():
            count += await self._evict(idle(page.tags, evict_after, self._registry.clock.now()), reason)
            if page.strays:
                await self._registry.db.write(_forget, page.strays)
        return count

    async def _evict_beyond(self, size: int, folders: Sequence[str]) -> int:
        """Let go of what was used the longest ago until the rest fits into `size`."""
        held = [each async for each in self._repositories(folders)]
        if sum([await self._registry.db.read(_held_bytes, repository_id) for repository_id, _ in held]) <= size:
            return 0  # Everything together, also what is going already and what others need as well.
        found = [tag async for page in self._pages() for tag in page.tags if _is_below(folders, tag.repository)]
        room = Room(size, self._registry.clock.now() - RECENT_SECONDS)
        evictable = {tag.key for tag in found}
        for repository_id, name in held:
            async for digest in self._others(repository_id, name, evictable):
                room.give([each async for each, _ in self._reached(repository_id, digest, folders)])
        going = []
        for tag in by_use(found):
            sizes = [each async for each in self._reached(tag.repository_id, tag.digest, folders)]
            if not room.takes(tag.used_at, sizes):
                going.append(tag)
        return await self._evict(list(reversed(going)), FULL)

    async def _evict(self, going: Sequence[CachedTag], reason: str) -> int:
        count = 0
        for first in range(0, len(going), BATCH):
            if not await self._may_delete():
                return count
            self._pace.begin()
            count += await self._registry.db.write(_evict, self._registry, going[first : first + BATCH], reason)
            await self._pace.rest()
        return count

    # --- what is there ------------------------------------------------------------------------------------------

    async def _pages(self) -> AsyncIterator[_Page]:
        """The cache's tags, by repository and name."""
        after: tuple[str, str] | None = ("", "")
        while after is not None:
            self._pace.begin()
            page = await self._registry.db.read(_page, after, self._registry.clock.now() - _STRAY_SECONDS)
            await self._pace.rest()
            yield page
            after = page.last

    async def _repositories(self, folders: Collection[str]) -> AsyncIterator[tuple[int, str]]:
        after = ""
        while page := await self._registry.db.read(repositories.every, after, PAGE):
            for repository_id, name in page:
                if _is_below(folders, name):
                    yield repository_id, name
            after = page[-1][1]

    async def _others(
        self, repository_id: int, repository: str, evictable: Collection[tuple[int, str]]
    ) -> AsyncIterator[Digest]:
        """What those tags of the repository point at that are not the cache's."""
        after = ""
        while page := await self._registry.db.read(tags.page, repository, after, PAGE):
            for tag in page:
                if (repository_id, tag.name) not in evictable and companions.subject(tag.name) is None:
                    yield tag.digest
            after = page[-1].name

    async def _reached(
        self, repository_id: int, digest: Digest, folders: Sequence[str]
    ) -> AsyncIterator[tuple[str, int]]:
        """Everything that stays with a manifest, and how much room it takes."""
        waiting, seen = [str(digest)], {str(digest)}
        while waiting:
            manifest = waiting.pop()
            after: str | None = ""
            while after is not None:
                self._pace.begin()
                page = await self._registry.db.read(_needed, repository_id, manifest, after, folders)
                await self._pace.rest()
                for each in page.sizes:
                    yield each
                new = [each for each in page.manifests if each not in seen]
                seen.update(new)
                waiting += new
                after = page.last


def _is_below(folders: Iterable[str], repository: str) -> bool:
    return any(repository.startswith(f"{folder}/") for folder in folders)


# --- facts ------------------------------------------------------------------------------------------------------


def _page(tx: Transaction, after: tuple[str, str], strays_until: float) -> _Page:
    rows = origins.page(tx, after, PAGE)
    found = _Page(last=(rows[-1].repository, rows[-1].tag) if len(rows) == PAGE else None)
    for row in rows:
        if row.found_by != "cache":
            continue
        repository_id = repositories.find(tx, row.repository)
        here = None if repository_id is None else _cached(tx, row, repository_id)
        if here is not None:
            found.tags.append(here)
        elif row.copied_at < strays_until and (repository_id is None or tags.find(tx, repository_id, row.tag) is None):
            found.strays.append(row)
    return found


def _cached(tx: Transaction, origin: TagOrigin, repository_id: int) -> CachedTag | None:
    """The tag as it is; None where it is gone, is somebody's by now, or goes with the manifest that it belongs to."""
    row = tx.one(
        "SELECT digest, pushed_at, by_name, by_digest, of_child FROM tag_pulls WHERE repository_id = ? AND name = ?",
        (repository_id, origin.tag),
    )
    if row is None or row[0] != origin.digest:
        return None
    subject = companions.subject(origin.tag)
    if subject is not None and manifests.beginning_with(tx, repository_id, subject) is not None:
        return None
    used_at = max(origin.copied_at, *filter(None, row[1:]))
    return CachedTag(origin.repository, repository_id, origin.tag, origin.digest, used_at)


def _evict(tx: Transaction, registry: Registry, going: Sequence[CachedTag], reason: str) -> int:
    """Take these tags away, as far as they are as they were; how many those were."""
    count = 0
    for each in going:
        if repositories.find(tx, each.repository) != each.repository_id:
            continue
        origin, tag = origins.find(tx, each.repository, each.name), tags.find(tx, *each.key)
        if origin is None or origin.found_by != "cache" or tag is None:
            continue
        if _cached(tx, origin, each.repository_id) != each or _stays(tx, registry, each):
            continue
        try:
            tags.remove(tx, registry, SYSTEM, each.repository, each.repository_id, tag, reason=reason)
        except TagImmutable:
            continue
        origins.forget(tx, each.repository, each.name)
        count += 1
    return count


def _stays(tx: Transaction, registry: Registry, tag: CachedTag) -> bool:
    """Whether something keeps it that nobody has to pull it for."""
    if why_protected(registry.rules.retention, tag.repository) is not None:
        return True
    return standing.in_use(tx, tag.repository_id, tag.digest) is not None


def _forget(tx: Transaction, strays: Iterable[TagOrigin]) -> None:
    """Drop the records of tags that are gone, unless one was made anew since."""
    for each in strays:
        if origins.find(tx, each.repository, each.tag) == each:
            origins.forget(tx, each.repository, each.tag)


def _held_bytes(tx: Transaction, repository_id: int) -> int:
    row = tx.one("SELECT coalesce(sum(size), 0) FROM held_blobs WHERE repository_id = ?", (repository_id,))
    assert row is not None
    found: int = row[0]
    return found


def _needed(tx: Transaction, repository_id: int, manifest: str, after: str, folders: Sequence[str]) -> _Needed:
    named = tx.all(
        "SELECT digest, role FROM manifest_names WHERE repository_id = ? AND manifest = ? AND digest > ?"
        " ORDER BY digest LIMIT ?",
        (repository_id, manifest, after, PAGE),
    )
    wanted = {digest: role == Role.CHILD for digest, role in named}
    if not after:
        wanted[manifest] = False
        wanted |= dict.fromkeys(manifests.companions_of(tx, repository_id, Digest(manifest)), True)
    return _Needed(
        [(digest, _size(tx, repository_id, digest, folders)) for digest in wanted],
        [digest for digest, is_manifest in wanted.items() if is_manifest],
        named[-1][0] if len(named) == PAGE else None,
    )


def _size(tx: Transaction, repository_id: int, digest: str, folders: Sequence[str]) -> int:
    """How much of the cache's room the digest takes: none if it is not here, or others than the cache have it."""
    row = tx.one("SELECT size FROM held_blobs WHERE repository_id = ? AND digest = ?", (repository_id, digest))
    if row is None:
        return 0
    outside = " AND ".join(["NOT (repository >= ? AND repository < ?)"] * len(folders))
    ends = [end for folder in folders for end in (f"{folder}/", f"{folder}0")]  # In ASCII, 0 is behind the slash.
    sql = f"SELECT 1 FROM held_blobs WHERE digest = ? AND {outside} LIMIT 1"  # noqa: S608 (marks only)
    size: int = row[0]
    return 0 if tx.one(sql, (digest, *ends)) else size
