"""The sweep: looks at what may have become superfluous, and lets go of what is.

The order of its steps is its safety (docs/format.md draws it, and the simulation tries it):
1. A **link** goes when nothing keeps it (`registry/standing.py`), into the trash, in the transaction that looked.
2. A **blob** that no link leads to and nobody writes is *condemned*: absent to every reader from that commit on.
3. Not before `condemned_seconds` later another transaction looks again, moves its bytes to the trash and drops the row.
4. When nothing that is listed in the trash needs them any more, the bytes are purged.

Holds: there is no lock but that of the row which is looked at, and no moment when all is looked at. One broken thing is
tried again later and stops nothing else. Nothing goes while the registry is read-only or the clock is in doubt.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from homeport.clock import Clock, rfc3339
from homeport.db.database import ConstraintViolated, DatabaseError, Transaction
from homeport.events import SYSTEM, Origin
from homeport.garbage import totals
from homeport.garbage.guard import ClockGuard
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.registry import blobs, manifests, reviews, standing, tags, trash, uploads
from homeport.registry.registry import Registry
from homeport.registry.reviews import BLOB, Review
from homeport.registry.standing import Link, Standing, Verdict
from homeport.registry.trash import TrashedBlob
from homeport.storage.blobstore import StorageError

#: How much is looked at in one transaction, during which nobody else is served: while requests are, and while none is.
BATCH_BUSY: Final = 8
BATCH_IDLE: Final = 128
#: How many tags are removed in one transaction, of a manifest that goes.
TAGS_BATCH: Final = 200
#: How many bytes are purged, and rows of the trash forgotten, in one go.
PURGE_BATCH: Final = 32
EXPIRE_BATCH: Final = 500
UPLOADS_BATCH: Final = 100
#: So many steps of a kind at most before the others have their turn: on a busy registry something is always due.
TURN_STEPS: Final = 50
#: How often is looked for work.
IDLE_SECONDS: Final = 5.0
#: After each step there is a pause of so many times its length: while requests are served, and while none is.
PAUSE_BUSY: Final = 40.0
PAUSE_IDLE: Final = 3.0
PAUSE_SECONDS_MAX: Final = 2.0


@dataclass(slots=True)
class Pace:
    """Gives way to requests: whoever cleans up rests after each step."""

    clock: Clock
    busy: Callable[[], bool]
    _began: float = field(default=0.0)

    @property
    def batch(self) -> int:
        """How much a step may look at."""
        return BATCH_BUSY if self.busy() else BATCH_IDLE

    def begin(self) -> None:
        """A step begins."""
        self._began = self.clock.monotonic()

    async def rest(self) -> None:
        """It has ended."""
        took = self.clock.monotonic() - self._began
        times = PAUSE_BUSY if self.busy() else PAUSE_IDLE
        await self.clock.sleep(min(took * times, PAUSE_SECONDS_MAX))


class Sweeper:
    """Looks at what is due, again and again."""

    def __init__(self, registry: Registry, log: Log, guard: ClockGuard, pace: Pace) -> None:
        self._registry = registry
        self._log = log
        self._guard = guard
        self._pace = pace
        #: When, by the wall clock and by the monotonic one, all that was committed was last made durable.
        self._flushed_at = (-math.inf, -math.inf)
        self._tidying: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Sweep for as long as the program runs."""
        while True:
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 (a loop that died would be missed by nobody until it is needed)
                self._log.error("sweep.failed", error=repr(error))
            await self._registry.clock.sleep(IDLE_SECONDS)

    async def sweep(self) -> None:
        """Do all that is due now. Raises `DatabaseError`."""
        steps = (self.look, self.purge, self.abandon)
        try:
            while any([await self._take_turn(step) for step in steps]):
                pass
        finally:
            await self._tidied()

    async def _take_turn(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """Take the step again and again, until there is nothing more to do or others must have their turn (True)."""
        for _ in range(TURN_STEPS):
            if not await self._guard.may_delete():
                return False
            self._pace.begin()
            if not await step():
                return False
            await self._pace.rest()
        return True

    async def sweep_now(self, untagged_seconds: float) -> None:
        """Look at everything that nothing refers to, due or not, with this grace; again until nothing more goes."""
        try:
            while await self._look_at_everything(untagged_seconds):
                pass
        finally:
            await self._tidied()

    async def _look_at_everything(self, untagged_seconds: float) -> bool:
        """Look once at everything that nothing refers to; whether something went that may have kept something else."""
        went, at = False, (0, "")
        while await self._guard.may_delete():
            self._pace.begin()
            page = await self._registry.db.read(reviews.after, *at, self._pace.batch)
            if not page:
                break
            counts = await self._look_at(page, untagged_seconds)
            went = went or bool(counts["manifests"] or counts["blobs"])
            at = page[-1].repository_id, page[-1].digest
            await self._pace.rest()
        return went

    # --- steps --------------------------------------------------------------------------------------------------

    async def look(self) -> bool:
        """Look at some of what is due; whether there was any."""
        page = await self._registry.db.read(reviews.due, self._registry.clock.now(), self._pace.batch)
        if page:
            await self._look_at(page, None)
        return bool(page)

    async def purge(self) -> bool:
        """Let go for good of some of what has been in the trash for long enough; whether there was any."""
        registry = self._registry
        before = registry.clock.now() - registry.rules.trash_seconds
        expired = await registry.db.jot(trash.expire_links, before, EXPIRE_BATCH)
        purged = await purge_bytes(registry, before, PURGE_BATCH)
        for blob, error in purged.failed:
            self._log.warning("purge.failed", digest=blob.digest, error=str(error))
        return bool(expired or purged.blobs or purged.failed)

    async def abandon(self) -> bool:
        """Forget some of the uploads that nobody goes on with; whether there was any."""
        count = await uploads.abandon(self._registry, UPLOADS_BATCH)
        if count:
            await self._registry.db.jot(totals.add, {"uploads": count})
        return bool(count)

    async def _look_at(self, page: list[Review], untagged_seconds: float | None) -> Counter[str]:
        """Look at these, and have the folders taken away that bytes of theirs left empty; what went."""
        await self._settle(page)
        counts = await self._look_at_all(page, untagged_seconds)
        if counts["trashed"]:
            await self._tidied()
            self._tidying = asyncio.ensure_future(self._tidy())
        return counts

    async def _settle(self, page: list[Review]) -> None:
        """No bytes move before it is durable that they are condemned, by whichever process that was.

        Two clocks are asked, since one may be set: what is old enough to move was condemned before the last flush if
        that was within half of the time that lies between the two.
        """
        registry = self._registry
        digests = [review.digest for review in page if review.repository_id == BLOB]
        condemned_at = await registry.db.read(blobs.condemned_at, digests) if digests else None
        if condemned_at is None:
            return
        now = registry.clock.now(), registry.clock.monotonic()
        wall, monotonic = self._flushed_at
        if condemned_at >= wall or now[1] - monotonic > registry.rules.condemned_seconds / 2:
            await registry.db.write(_nothing)
            self._flushed_at = now

    async def _tidy(self) -> None:
        with suppress(StorageError):
            await self._registry.blobs.tidy()

    async def _tidied(self) -> None:
        """Wait until the last folders are away."""
        if self._tidying is not None:
            await self._tidying
            self._tidying = None

    async def _look_at_all(self, page: list[Review], untagged_seconds: float | None) -> Counter[str]:
        """Look at these in one transaction, or where that fails one by one.

        What a power cut takes back of it is done again: links that are there still, bytes that are in the trash now.
        """
        registry = self._registry
        try:
            return await registry.db.jot(look_at, registry, page, untagged_seconds)
        except Exception as error:  # which of them it was, the next lines find out
            if _is_of_database(error):
                raise
            counts: Counter[str] = Counter()
        for review in page:
            try:
                counts += await registry.db.jot(look_at, registry, [review], untagged_seconds)
            except Exception as error:  # one that is broken in whatever way stops no other
                if _is_of_database(error):
                    raise
                self._log.error("sweep.broken", digest=review.digest, error=repr(error))
                await registry.db.write(_put_off, registry, review)
        return counts


def _is_of_database(error: Exception) -> bool:
    """Whether nothing can be written; rows that do not fit together are a matter of the one thing."""
    return isinstance(error, DatabaseError) and not isinstance(error, ConstraintViolated)


@dataclass(frozen=True, slots=True)
class PurgedBytes:
    """What became of bytes that were let go of: gone, or still on the disk without a row."""

    blobs: list[TrashedBlob]
    failed: list[tuple[TrashedBlob, Exception]]


async def purge_bytes(registry: Registry, before: float, limit: int) -> PurgedBytes:
    """Purge bytes that were retired before `before` and that nothing needs, at most `limit`."""
    return await purge_these(registry, await registry.db.read(trash.purgeable, before, limit), before)


async def purge_these(registry: Registry, found: list[TrashedBlob], before: float) -> PurgedBytes:
    """Purge those of the bytes that were retired before `before` and that nothing needs."""
    went: list[TrashedBlob] = []
    failed: list[tuple[TrashedBlob, Exception]] = []
    for blob in found:
        if await registry.db.write(_forget_bytes, blob, before):
            try:
                await registry.blobs.purge(blob.location)
            except Exception as error:  # noqa: BLE001 (the walk finds what is left)
                failed.append((blob, error))
            else:
                went.append(blob)
    return PurgedBytes(went, failed)


# --- facts ------------------------------------------------------------------------------------------------------


def look_at(tx: Transaction, registry: Registry, page: list[Review], untagged_seconds: float | None) -> Counter[str]:
    """Look at these anew, and let go of what may go; what that was."""
    counts: Counter[str] = Counter()
    for review in page:
        if review.repository_id == BLOB:
            counts += _look_at_blob(tx, registry, review.digest)
        else:
            counts += _look_at_link(tx, registry, review, untagged_seconds)
    if counts["trashed"]:
        registry.blobs.sync_trash()
    totals.add(tx, counts)
    return counts


def _nothing(tx: Transaction) -> None:
    """Its commit makes durable what was jotted before it."""


def _look_at_link(tx: Transaction, registry: Registry, review: Review, untagged_seconds: float | None) -> Counter[str]:
    tx.lock([review.digest], exclusive=True)
    link = standing.find(tx, review.repository_id, review.digest)
    if link is None:
        reviews.drop(tx, review.repository_id, review.digest)
        return Counter()
    found = standing.of(tx, registry, link, untagged_seconds)
    if found.verdict is Verdict.KEPT:
        reviews.drop(tx, review.repository_id, review.digest)
        return Counter()
    if found.verdict is Verdict.WAITS:
        if review.due_at <= registry.clock.now():
            reviews.ask(tx, registry, review.repository_id, review.digest, found.until)
        return Counter()
    return _let_go(tx, registry, link, found)


def _let_go(tx: Transaction, registry: Registry, link: Link, found: Standing) -> Counter[str]:
    assert found.since is not None
    origin = Origin(SYSTEM.actor, run="cleanup")
    reason = f"{found.reason} since {rfc3339(int(found.since))}"
    if link.manifest_id is None:
        blobs.take_out(tx, registry, origin, link.repository, link.repository_id, link.digest, reason=reason)
        return Counter(blobs=1) + _look_at_blob(tx, registry, link.digest)
    some = tags.of_manifest(tx, link.manifest_id, TAGS_BATCH + 1)
    if len(some) > TAGS_BATCH:  # Only somebody who wants us to be busy gives it so many.
        for tag in some:
            tags.remove(tx, registry, origin, link.repository, link.repository_id, tag, reason=reason)
        reviews.look(tx, link.repository_id, link.digest, registry.clock.now())
        return Counter()
    manifests.take_out(
        tx, registry, origin, link.repository, link.repository_id, link.digest, reason=reason, swept=True
    )
    return Counter(manifests=1) + _look_at_blob(tx, registry, link.digest)


def _look_at_blob(tx: Transaction, registry: Registry, digest: Digest) -> Counter[str]:
    now, rules = registry.clock.now(), registry.rules
    found = blobs.condition(tx, now, digest)
    if found is None or found.linked:
        reviews.drop(tx, BLOB, digest)
        return Counter()
    if found.held_until is not None:
        reviews.look(tx, BLOB, digest, found.held_until)
        return Counter()
    if found.state == "condemned":
        ready_at = found.changed_at + rules.condemned_seconds
        if ready_at > now:
            reviews.look(tx, BLOB, digest, ready_at)
            return Counter()
        blobs.retire(tx, registry, digest, found)
        reviews.drop(tx, BLOB, digest)
        return Counter(trashed=1, trashed_bytes=found.size or 0)
    stays_until = found.changed_at + rules.grace_seconds
    if found.state == "arriving" and stays_until > now:
        reviews.look(tx, BLOB, digest, stays_until)
        return Counter()
    blobs.condemn(tx, registry, digest)
    reviews.look(tx, BLOB, digest, now + rules.condemned_seconds)
    return Counter()


def _put_off(tx: Transaction, registry: Registry, review: Review) -> None:
    reviews.fail(tx, registry, review)
    totals.add(tx, {"failures": 1})


def _forget_bytes(tx: Transaction, blob: TrashedBlob, before: float) -> bool:
    """Let go of the row of these bytes, if that may still be done."""
    if not trash.may_purge(tx, blob, before):
        return False
    trash.forget_bytes(tx, blob.name)
    totals.add(tx, {"purged": 1, "purged_bytes": blob.size or 0})
    return True
