"""One run of the mirror: look at upstreams, decide, copy what is missing, let go what is over.

ARCHITECTURE.md has the way through it. Holds: the list of copies is durable before the first one begins and a copy is
crossed off when its tag has moved, so a run that died goes on where it was; a copy that fails stops no other; nothing
is removed before everything was looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from homeport.client import copying
from homeport.client.errors import ClientError, NotFound
from homeport.client.repository import FetchedManifest
from homeport.clock import rfc3339
from homeport.config.settings import Settings
from homeport.db.database import DatabaseError, Transaction
from homeport.events import SYSTEM, Origin
from homeport.jobs.summary import Failure, shortened
from homeport.jobs.work import Run
from homeport.mirror import brake, holdings, keeping, leaving, origins, remaining, side_by_side, sightings
from homeport.mirror.addresses import Source
from homeport.mirror.answering import Answering
from homeport.mirror.fetching import Fetches
from homeport.mirror.origins import TagOrigin
from homeport.mirror.plan import Departure, Departures
from homeport.mirror.planning import Decided, Planner
from homeport.mirror.publicity import Publicity, manifest_shown
from homeport.mirror.remaining import Copy
from homeport.mirror.rules import FOLLOWED, Rule, followed
from homeport.mirror.transfer import OurEnd, Picked, UpstreamEnd, Watching
from homeport.oci import platforms
from homeport.oci.digest import Digest
from homeport.oci.errors import RegistryError
from homeport.oci.manifest import Manifest
from homeport.oci.platforms import Platform
from homeport.registry.registry import Registry
from homeport.storage.blobstore import StorageError
from homeport.upstreams.upstreams import Purpose, Upstreams

#: How many images are on their way at once; each upstream's gate decides how many requests go out.
COPIES_AT_ONCE: Final = 6
#: How many tags one transaction is about.
_BATCH: Final = 500
#: How many platforms an error names.
_PLATFORMS_TOLD_MAX: Final = 20
#: How much is told of why an image could not be copied.
_WHY_CHARACTERS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run works with."""

    registry: Registry
    upstreams: Upstreams
    fetches: Fetches
    publicity: Publicity
    #: Whether anything may be removed: the time can be believed.
    may_delete: Callable[[], Awaitable[bool]]
    settings: Callable[[], Settings]


@dataclass(slots=True)
class Result:
    """What became of a run."""

    checked: int = 0
    unchanged: int = 0
    copied: int = 0
    bytes: int = 0
    waiting: int = 0
    theirs: int = 0
    removed: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """As the summary tells it: what was done first, since that is what short messages have room for."""
        names = ("copied", "bytes", "removed", "unchanged", "checked", "waiting", "theirs")
        return {name: getattr(self, name) for name in names}


class MirrorRun:
    """One run, of these rules."""

    def __init__(self, parts: Parts, run: Run, rules: Sequence[Rule], *, follow: bool, everything: bool) -> None:
        self._parts = parts
        self._run = run
        self._rules = rules
        self._follow = follow
        #: Whether it is of all images, so that what no image names any more can be told.
        self._everything = everything
        self._origin = Origin(SYSTEM.actor, run=f"job-{run.job.id}")
        self._result = Result()
        self._answering = Answering()
        self._by_label: dict[str, Rule] = {}

    async def do(self) -> Result:
        """Do it."""
        db = self._parts.registry.db
        await self._write_down_arrivals()
        left = await db.read(remaining.of_run, self._run.job.id) if self._run.job.attempts > 1 else []
        if left:
            await self._go_on(left)
        decided = await self._decide()
        await self._copy_all(decided.copies, decided.tags)
        await self._depart(decided)
        await self._parts.upstreams.flush()
        if (why := await keeping.write(self._parts.registry, self._parts.settings())) is not None:
            await self._run.say(why)
        return self._result

    async def _write_down_arrivals(self) -> None:
        """Note where those tags came from that were set just before a run died or could not write any more."""
        db, after = self._parts.registry.db, ("", "")
        while left := await db.read(remaining.every, _BATCH, after):
            after = (left[-1].repository, left[-1].tag)
            await db.write(_arrived_before, left, self._parts.registry.clock.now())

    async def _go_on(self, left: Sequence[Copy]) -> None:
        """Do what was left when the run was cut off. What fails now is decided about again, and tried once more."""
        await self._run.say(f"going on where it was cut off: {len(left)} copies are left")
        self._by_label = {rule.label: rule for rule in self._rules}
        if self._follow:
            mirror = self._parts.settings().mirror
            self._by_label |= {each.image: followed(mirror, each.source, "") for each in left if each.image == FOLLOWED}
        await self._copy_all([each for each in left if each.image in self._by_label], {})
        self._result.failures.clear()
        self._result.theirs = 0
        self._answering = Answering()

    # --- looking ------------------------------------------------------------------------------------------------

    async def _decide(self) -> Decided:
        parts, run, result = self._parts, self._run, self._result
        await run.progress(0, None, text="asking upstreams")
        planner = Planner(parts.registry, parts.upstreams, parts.settings(), self._answering, quiet=False)
        decided = await planner.decide(self._rules, follow=self._follow, everything=self._everything)
        self._by_label = {rule.label: rule for rule in decided.rules}
        result.checked += decided.checked
        result.unchanged += decided.unchanged
        result.waiting += len(decided.waiting)
        result.theirs += len(decided.theirs)
        result.failures += decided.failures
        for each in (*decided.waiting, *decided.theirs):
            await run.say(f"{each.name}: {each.why}")
        for stop in decided.braked:
            clock = parts.registry.clock
            await parts.registry.db.write(brake.stop, clock, run.job.id, stop.source, stop.reason, stop.listed)
            result.failures.append(Failure(str(stop.source), brake.told(stop.reason, run.job.id)))
        kept = [*self._by_label, FOLLOWED] if self._everything else None
        await parts.registry.db.write(_plan, run.job.id, decided, kept, parts.registry.clock.now())
        return decided

    # --- copying ------------------------------------------------------------------------------------------------

    async def _copy_all(self, copies: Sequence[Copy], tags: Mapping[Source, frozenset[str]]) -> None:
        done = 0

        async def copy_one(copy: Copy) -> None:
            nonlocal done
            await self._copy(copy, tags.get(copy.source))
            done += 1
            await self._run.progress(done, len(copies), "images", str(copy))

        await side_by_side.each(copy_one, copies, COPIES_AT_ONCE)

    async def _copy(self, copy: Copy, tags: frozenset[str] | None) -> None:
        """Make one copy. Whatever it fails with is told, and stops no other one."""
        host = copy.source.host
        try:
            self._answering.check(host)
            text = await self._transfer(copy, tags)
            self._answering.answered(host)
            await self._run.say(f"{copy.told}: {text}")
        except (ClientError, RegistryError, StorageError, DatabaseError) as error:
            self._answering.failed(host, error)
            await self._failed(copy, _told(error))
        except Exception as error:  # noqa: BLE001 (an upstream may have found what nobody thought of)
            await self._failed(copy, repr(error))

    async def _failed(self, copy: Copy, why: str) -> None:
        why = shortened(why, _WHY_CHARACTERS_MAX)
        self._result.failures.append(Failure(str(copy), why))
        with contextlib.suppress(DatabaseError):  # Then it is only told at the end.
            await self._run.say(f"{copy.told}: failed: {why}")
            await self._parts.registry.db.write(remaining.failed, copy.repository, copy.tag, why)

    async def _transfer(self, copy: Copy, tags: frozenset[str] | None) -> str:
        """Bring the image here and let the tag point at it; what became of it."""
        parts, rule = self._parts, self._by_label[copy.image]
        upstream = await parts.upstreams.repository(*copy.source, Purpose.RUNS)
        shown = manifest_shown(copy.source_tag)
        shared = await parts.publicity.settle(copy.source, copy.repository, shown, Purpose.RUNS)
        source = UpstreamEnd(parts.registry, copy.repository, upstream)
        destination = OurEnd(
            parts.registry,
            parts.fetches,
            self._origin,
            copy.repository,
            source,
            rule.platforms,
            shared=shared,
            overwrite=rule.overwrite,
        )
        watching = Watching(destination)
        root = await self._root(copy, rule, source)
        _check_platforms(root.manifest, rule.platforms)
        await copying.copy(
            source,
            root.digest,
            destination,
            copy.tag,
            referrers=rule.referrers,
            observer=watching,
            choice=Picked(rule, tags),
        )
        label = None if rule.selector is None else rule.label
        await parts.registry.db.jot(_arrived, copy, destination.tagged, label, parts.registry.clock.now())
        if copy.tag in destination.theirs:
            self._result.theirs += 1
            return "somebody pushed another one here, and 'overwrite' is not set"
        self._result.copied += 1
        self._result.bytes += watching.bytes
        return f"{copy.why}; {watching.bytes} bytes came"

    async def _root(self, copy: Copy, rule: Rule, source: UpstreamEnd) -> FetchedManifest:
        """The manifest that the tag leads to: as it was looked at, or as it is now, where upstream has that no more."""
        try:
            return await source.get_manifest(copy.digest)
        except NotFound:
            # It moved since it was looked at, and upstream drops what no tag names any more.
            head = await source.head_manifest(copy.source_tag)
            if head is None or head.digest == copy.digest:
                raise
            if rule.minimum_age:
                raise ClientError(f"it moved to {head.digest} just now, which is not old enough") from None
        await self._parts.registry.db.write(remaining.moved, copy.repository, copy.tag, head.digest)
        return await source.get_manifest(head.digest)

    # --- leaving ------------------------------------------------------------------------------------------------

    async def _depart(self, decided: Decided) -> None:
        registry, run = self._parts.registry, self._run
        now = registry.clock.now()
        for departures in _in_batches(decided.departures):
            await registry.db.write(leaving.mark, departures)
        await registry.db.write(_believe, decided.believed, {stop.source for stop in decided.braked}, now)
        due = []
        for each in decided.departures.leaving:
            if each.is_due(now):
                due.append(each)
            elif each.goes_at is not None or each.is_news:
                await run.say(f"{each.origin.repository}:{each.origin.tag}: {each.leaving}{_until(each)}")
        for departure in due:
            if not await self._parts.may_delete():
                await run.say("nothing is removed: the clock may be wrong, or the registry is read-only")
                return
            await self._remove(departure)

    async def _remove(self, departure: Departure) -> None:
        ours = departure.origin
        name = f"{ours.repository}:{ours.tag}"
        db = self._parts.registry.db
        why = await self._has_again(departure) if departure.is_upstreams_doing else None
        if why is None:
            why = await db.write(leaving.remove, self._parts.registry, self._origin, departure)
        if why is None:
            self._result.removed += 1
            await self._run.say(f"{name}: removed: {leaving.reason(departure)}")
        else:
            await self._run.say(f"{name}: stays: {why}")

    async def _has_again(self, departure: Departure) -> str | None:
        """Why upstream may have the tag, which is asked for once more: hours may have passed. None: it has not."""
        ours = departure.origin
        try:
            self._answering.check(ours.source.host)
            upstream = await self._parts.upstreams.repository(*ours.source, Purpose.RUNS)
            head = await upstream.head_manifest(ours.source_tag)
        except ClientError as error:
            return str(error)
        return None if head is None else "upstream has it"


def _in_batches(found: Departures) -> Iterator[Departures]:
    for first in range(0, len(found.leaving), _BATCH):
        yield Departures(found.leaving[first : first + _BATCH])
    for first in range(0, len(found.back), _BATCH):
        yield Departures(back=found.back[first : first + _BATCH])


def _check_platforms(manifest: Manifest, wanted: Sequence[Platform]) -> None:
    """Raise `ClientError` for an index of which nothing would come: nobody could pull what is here then."""
    if manifest.is_index and (others := platforms.of_none(manifest, wanted)):
        there = ", ".join(map(str, others[:_PLATFORMS_TOLD_MAX]))
        raise ClientError(f"it is for none of the 'platforms' that are wanted, but for {there}")


def _until(departure: Departure) -> str:
    if departure.goes_at is None:
        return "; it stays"
    return f" since {rfc3339(int(departure.since))}; it goes after {rfc3339(int(departure.goes_at))}"


def _told(error: Exception) -> str:
    detail = error.detail if isinstance(error, RegistryError) else None
    return f"{error}: {detail}" if detail and detail not in str(error) else str(error)


# --- facts ------------------------------------------------------------------------------------------------------


def _plan(tx: Transaction, run: int, decided: Decided, kept: Iterable[str] | None, now: float) -> None:
    """Write down what is to be copied, and what turned out to be upstream's already. `kept`: all images there are."""
    if kept is not None:
        remaining.keep_only(tx, kept)
    remaining.replace(tx, run, decided.copies, decided.settled, now)
    for each in decided.same:
        origins.record(tx, each)


def _believe(tx: Transaction, lists: Mapping[Source, int], braked: Container[Source], now: float) -> None:
    """Write down which lists were believed. What was stopped and released for them before is over."""
    for source, listed in lists.items():
        if source not in braked:
            sightings.record_list(tx, source, listed, now)
            brake.clear(tx, source)


def _arrived(tx: Transaction, copy: Copy, tagged: Mapping[str, Digest], image: str | None, now: float) -> None:
    """The tags point at what upstream has: where they came from, and that this one is not left to copy."""
    for tag, digest in tagged.items():
        source_tag = copy.source_tag if tag == copy.tag else tag
        origins.record(tx, TagOrigin(copy.repository, tag, copy.source, source_tag, digest, "mirror", image, now))
    remaining.done(tx, copy.repository, copy.tag)


def _arrived_before(tx: Transaction, left: Sequence[Copy], now: float) -> None:
    for copy in left:
        if holdings.tag(tx, copy.repository, copy.tag) == copy.digest:
            _arrived(tx, copy, {copy.tag: copy.digest}, None if copy.image == FOLLOWED else copy.image, now)
