"""The slow walk: once a day along all bytes and all rows, for what no event told of.

- Bytes in a blob's place that no row knows (a push died, an old database came back) get a row that offers nothing, and
  go the way of all blobs if nobody takes them up within a grace. Bytes in the trash likewise.
- Live rows whose bytes are missing or cut short are told, and mended where the trash has the bytes.
- Links that nothing refers to and nobody was asked to look at are looked at; and what belongs to a subject, since only
  a look from there finds manifests that keep one another.
- Write holds that have lapsed are dropped: of a blob that stays, nobody else does that before its next push.

Holds: where more bytes are unknown than an accident leaves, or somebody else keeps facts about them, none is touched
and it is told: then it is the database that is wrong; where no blob is there at all, it is the disk. Each step is
short, and gives way to requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from homeport import events
from homeport.db.database import Transaction
from homeport.events import SYSTEM
from homeport.garbage.guard import ClockGuard
from homeport.garbage.sweep import Pace
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import DigestInvalid
from homeport.registry import blobs, reviews, trash
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry
from homeport.registry.trash import TrashedBlob
from homeport.storage.blobstore import BlobMissing

#: The pause between two walks, and before the first: a start has other things to do.
WALK_SECONDS: Final = 86_400.0
FIRST_SECONDS: Final = 600.0
#: How many things one step looks at.
BATCH: Final = 256
#: So many unknown blobs, or this part of all, is no accident.
UNKNOWN_MAX: Final = 20
UNKNOWN_PART_MAX: Final = 0.25
#: Unknown blobs of one walk that get a row; the next one finds the others.
ADOPTED_MAX: Final = 10_000


@dataclass(slots=True)
class Found:
    """What a walk came upon."""

    files: int = 0
    #: How many blobs no row knows, and the first of them.
    unknown_count: int = 0
    unknown: list[Blob] = field(default_factory=list)
    adopted: int = 0
    lost: int = 0
    mended: int = 0
    forgotten: int = 0
    #: Why unknown blobs, or lost ones, were left alone.
    stopped: str | None = None


class Walker:
    """Walks once a day."""

    def __init__(self, registry: Registry, log: Log, guard: ClockGuard, pace: Pace) -> None:
        self._registry = registry
        self._log = log
        self._guard = guard
        self._pace = pace

    async def run(self) -> None:
        """Walk for as long as the program runs."""
        await self._registry.clock.sleep(FIRST_SECONDS)
        while True:
            try:
                if await self._guard.may_delete():
                    found = await self.walk()
                    self._log.info(
                        "walk.ended", files=found.files, adopted=found.adopted, lost=found.lost, mended=found.mended
                    )
            except Exception as error:  # noqa: BLE001 (a loop that died would be missed by nobody until it is needed)
                self._log.error("walk.failed", error=repr(error))
            await self._registry.clock.sleep(WALK_SECONDS)

    async def walk(self) -> Found:
        """One walk. Raises `StorageError`, `DatabaseError`; what was done by then stays done."""
        found = Found()
        await self._along_files(found)
        if not found.files and len(await self._registry.db.read(blobs.live, "", UNKNOWN_MAX + 1)) > UNKNOWN_MAX:
            found.stopped = "none of the blobs that should be there is: is the right disk mounted?"
            await self._registry.db.write(_tell_stopped, self._registry, found.stopped)
            return found
        await self._along_rows(found)
        await self._along_trash(found)
        await self._along_links(found)
        await self._along_holds()
        return found

    # --- bytes --------------------------------------------------------------------------------------------------

    async def _along_files(self, found: Found) -> None:
        batch: list[Blob] = []
        async for digest, location, size in self._registry.blobs.blobs():
            found.files += 1
            batch.append(Blob(digest, size, location))
            if len(batch) == BATCH:
                await self._look_up(found, batch)
                batch = []
        await self._look_up(found, batch)
        if not found.unknown:
            return
        found.stopped = await self._doubt(found)
        if found.stopped is not None:
            await self._registry.db.write(_tell_stopped, self._registry, found.stopped)
            return
        for blob in found.unknown:
            found.adopted += await self._registry.db.write(blobs.adopt, self._registry, blob)

    async def _look_up(self, found: Found, batch: list[Blob]) -> None:
        self._pace.begin()
        unknown = await self._registry.db.read(blobs.unknown, [blob.digest for blob in batch])
        found.unknown_count += len(unknown)
        room = ADOPTED_MAX - len(found.unknown)
        found.unknown += [blob for blob in batch if blob.digest in unknown][:room]
        await self._pace.rest()

    async def _doubt(self, found: Found) -> str | None:
        """Why it may well be the rows that are missing, and not the blobs that are too many."""
        foreign = await self._registry.blobs.foreign()
        count = found.unknown_count
        if foreign is not None:
            return f"{count} blobs are not in the database and left alone: {foreign}"
        if count > max(UNKNOWN_MAX, found.files * UNKNOWN_PART_MAX):
            return (
                f"{count} of {found.files} blobs are not in the database and left alone: so many are no accident,"
                " so it may be the database that is not the right one"
            )
        return None

    async def _along_rows(self, found: Found) -> None:
        after = ""
        while page := await self._registry.db.read(blobs.live, after, BATCH):
            self._pace.begin()
            for blob, lost_at in page:
                is_whole = await blobs.is_whole(self._registry, blob)
                if is_whole == (lost_at is not None) or not is_whole:
                    await self._tell(found, blob, lost=not is_whole)
            after = page[-1][0].digest
            await self._pace.rest()

    async def _tell(self, found: Found, blob: Blob, *, lost: bool) -> None:
        if lost and await self._mend(blob):
            found.mended += 1
            lost = False
        if lost:
            found.lost += 1
        if await self._registry.db.write(blobs.note_lost, self._registry, blob, lost=lost) and lost:
            self._log.error("blob.lost", digest=blob.digest)

    async def _mend(self, blob: Blob) -> bool:
        """Put bytes of the trash in the place of those that are lost. Whoever pushes it meanwhile does the same."""
        for trashed in await self._registry.db.read(trash.bytes_of, blob.digest):
            if trashed.size != blob.size:
                continue
            try:
                location = await self._registry.blobs.restore(trashed.location, blob.digest)
            except BlobMissing:
                continue
            if location == blob.location and await blobs.is_whole(self._registry, blob):
                await self._registry.db.write(trash.forget_bytes, trashed.name)
                return True
        return False

    # --- the trash ----------------------------------------------------------------------------------------------

    async def _along_trash(self, found: Found) -> None:
        """Bytes whose row was lost with the power, or whose purge broke off, are kept for as long as any others."""
        async for location, name, size in self._registry.blobs.trashed():
            digest = _digest_of(name)
            if digest is not None and not await self._registry.db.read(_is_listed, location, name):
                await self._registry.db.write(_list, self._registry, TrashedBlob(name, digest, size, location))
                found.adopted += 1

    # --- links --------------------------------------------------------------------------------------------------

    async def _along_links(self, found: Found) -> None:
        """Ask for a look at what was forgotten, and at what belongs to a subject."""
        for page_of, ask in (
            (_links_page, _ask_for_unattended),
            (_blobs_page, _ask_for_unattended),
            (_subject_manifests_page, _ask_for_all),
            (_subject_tags_page, _ask_for_all),
        ):
            after = _START
            while page := await self._registry.db.read(page_of, after):
                self._pace.begin()
                asked = await self._registry.db.jot(ask, self._registry, page)
                found.forgotten += asked if ask is _ask_for_unattended else 0
                after = page[-1].key
                await self._pace.rest()

    # --- holds --------------------------------------------------------------------------------------------------

    async def _along_holds(self) -> None:
        """Drop what pushes that died said of what they write."""
        registry = self._registry
        while await registry.db.jot(blobs.forget_lapsed_holds, registry.clock.now(), BATCH) == BATCH:
            await self._pace.rest()


#: A place on the way: a repository, and what tells its links apart.
_Key: TypeAlias = tuple[int, str, str]
_START: Final[_Key] = (0, "", "")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A link or blob on the way, and where that is."""

    key: _Key
    repository_id: int
    digest: Digest
    attended: bool = False


def _digest_of(name: str) -> Digest | None:
    """The digest in the name that `blobs.condemn` made; None: it is not ours."""
    try:
        return Digest.parse(":".join(name.split("-")[1:]))
    except DigestInvalid:
        return None


# --- facts ------------------------------------------------------------------------------------------------------


def _tell_stopped(tx: Transaction, registry: Registry, reason: str) -> None:
    events.append(tx, registry.clock, "cleanup.stopped", SYSTEM, reason=reason)


def _is_listed(tx: Transaction, location: str, name: str) -> bool:
    return trash.has_bytes(tx, location) or blobs.is_trash(tx, name)


def _list(tx: Transaction, registry: Registry, found: TrashedBlob) -> None:
    if not _is_listed(tx, found.location, found.name):
        trash.keep_bytes(tx, found, registry.clock.now())


def _links_page(tx: Transaction, after: _Key) -> list[_Seen]:
    rows = tx.all(
        "SELECT repository_id, digest, attended FROM attended_links WHERE (repository_id, digest) > (?, ?)"
        " ORDER BY repository_id, digest LIMIT ?",
        (*after[:2], BATCH),
    )
    return [_Seen((one, two, ""), one, Digest(two), bool(attended)) for one, two, attended in rows]


def _blobs_page(tx: Transaction, after: _Key) -> list[_Seen]:
    rows = tx.all(
        "SELECT digest, attended FROM attended_blobs WHERE digest > ? ORDER BY digest LIMIT ?", (after[1], BATCH)
    )
    return [_Seen((0, one, ""), reviews.BLOB, Digest(one), bool(attended)) for one, attended in rows]


def _subject_manifests_page(tx: Transaction, after: _Key) -> list[_Seen]:
    rows = tx.all(
        "SELECT repository_id, subject, name, digest FROM subject_manifests"
        " WHERE (repository_id, subject, name) > (?, ?, ?) ORDER BY repository_id, subject, name LIMIT ?",
        (*after, BATCH),
    )
    return [_Seen((one, two, three), one, Digest(digest)) for one, two, three, digest in rows]


def _subject_tags_page(tx: Transaction, after: _Key) -> list[_Seen]:
    rows = tx.all(
        "SELECT repository_id, subject, name, digest FROM subject_tags"
        " WHERE (subject, repository_id, name) > (?, ?, ?) ORDER BY subject, repository_id, name LIMIT ?",
        (after[1], after[0], after[2], BATCH),
    )
    return [_Seen((one, two, three), one, Digest(digest)) for one, two, three, digest in rows]


def _ask_for_unattended(tx: Transaction, registry: Registry, page: list[_Seen]) -> int:
    return _ask_for_all(tx, registry, [seen for seen in page if not seen.attended])


def _ask_for_all(tx: Transaction, registry: Registry, page: list[_Seen]) -> int:
    asked = 0
    for seen in page:
        if reviews.find(tx, seen.repository_id, seen.digest) is None:
            reviews.ask(tx, registry, seen.repository_id, seen.digest, registry.clock.now())
            asked += 1
    return asked
