"""One run of the mirror: look at upstreams, decide, copy what is missing, let go what is over.

Flow B of ARCHITECTURE.md. Holds: the list of copies is durable before the first one begins and a copy is crossed off
when its tag has moved, so a run that died goes on where it was; a copy that fails stops no other; nothing is removed
before everything was looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from homeport import config
from homeport.client import copying
from homeport.client.errors import ClientError, NotFound
from homeport.db.database import DatabaseError, Transaction
from homeport.events import SYSTEM, Origin
from homeport.jobs.summary import Failure
from homeport.jobs.work import Run
from homeport.mirror import brake, leaving, origins, remaining
from homeport.mirror.decisions import Decided, Decider
from homeport.mirror.fetching import Fetches
from homeport.mirror.plan import Departure
from homeport.mirror.publicity import Publicity
from homeport.mirror.remaining import Copy
from homeport.mirror.rules import Rule
from homeport.mirror.transfer import Picked, Repository, Upstream, Watching
from homeport.oci.digest import Digest
from homeport.oci.errors import RegistryError
from homeport.registry.registry import Registry
from homeport.storage.blobstore import StorageError
from homeport.upstreams.upstreams import Purpose, Upstreams

#: How many images are on their way at once; each upstream's gate decides how many requests go out.
COPIES_AT_ONCE: Final = 6


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run works with."""

    registry: Registry
    upstreams: Upstreams
    fetches: Fetches
    publicity: Publicity
    #: Whether anything may be removed: the time can be believed.
    may_delete: Callable[[], Awaitable[bool]]
    settings: Callable[[], config.Settings]


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
        """As the summary tells it."""
        names = ("checked", "unchanged", "copied", "bytes", "waiting", "theirs", "removed")
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
        self._by_label: dict[str, Rule] = {}

    async def do(self) -> Result:
        """Do it."""
        db = self._parts.registry.db
        left = await db.read(remaining.of_run, self._run.job.id) if self._run.job.attempts > 1 else []
        if left:
            await self._run.say(f"going on where it was cut off: {len(left)} copies are left")
            self._by_label = {rule.label: rule for rule in self._rules}
            await self._copy_all(left, {})
        decided = await self._decide()
        await self._copy_all(decided.copies, decided.tags)
        await self._depart(decided)
        await self._parts.upstreams.flush()
        return self._result

    # --- looking ------------------------------------------------------------------------------------------------

    async def _decide(self) -> Decided:
        parts, run, result = self._parts, self._run, self._result
        await run.progress(0, None, text="asking upstreams")
        decider = Decider(parts.registry, parts.upstreams, parts.settings, quiet=False)
        decided = await decider.decide(self._rules, follow=self._follow, everything=self._everything)
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
            text = f"{stop.reason}; nothing of it is removed until `homeport mirror release {run.job.id}`"
            result.failures.append(Failure(str(stop.source), text))
        await parts.registry.db.write(_plan, run.job.id, decided, parts.registry.clock.now())
        return decided

    # --- copying ------------------------------------------------------------------------------------------------

    async def _copy_all(self, copies: Sequence[Copy], tags: Mapping[str, frozenset[str] | None]) -> None:
        waiting = iter(copies)
        done = 0

        async def work() -> None:
            nonlocal done
            for copy in waiting:
                await self._copy(copy, tags.get(str(copy.source)))
                done += 1
                await self._run.progress(done, len(copies), "images", str(copy))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(COPIES_AT_ONCE, len(copies))):
                group.create_task(work())

    async def _copy(self, copy: Copy, tags: frozenset[str] | None) -> None:
        result, db = self._result, self._parts.registry.db
        try:
            moved = await self._transfer(copy, tags)
        except (ClientError, RegistryError, StorageError, DatabaseError) as error:
            why = _told(error)
            await self._run.say(f"{copy}: failed: {why}")
            result.failures.append(Failure(str(copy), why))
            await db.write(remaining.failed, copy.repository, copy.tag, why[:1000])
        else:
            result.copied += 1
            result.bytes += moved
            await self._run.say(f"{copy}: {copy.why}; {moved} bytes came")

    async def _transfer(self, copy: Copy, tags: frozenset[str] | None) -> int:
        """Bring the image here and let the tag point at it; how many bytes came."""
        parts = self._parts
        rule = self._by_label.get(copy.image)
        if rule is None:
            raise ClientError("the configuration names it no more")
        upstream = await parts.upstreams.repository(copy.source.host, copy.source.repository, Purpose.RUNS)
        shared = await parts.publicity.settle(copy.source, copy.source_tag, copy.repository)
        source = Upstream(parts.registry, copy.repository, upstream)
        place = Repository(
            parts.registry, parts.fetches, self._origin, copy.repository, source, rule.platforms, shared=shared
        )
        watching = Watching(place)
        digest = copy.digest
        try:
            await source.get_manifest(digest)
        except NotFound:
            # It moved since it was looked at, and upstream drops what no tag names any more.
            head = await upstream.head_manifest(copy.source_tag)
            if head is None or head.digest == digest:
                raise
            digest = head.digest
        await copying.copy(
            source,
            digest,
            place,
            copy.tag,
            referrers=rule.referrers,
            observer=watching,
            choice=Picked(rule, tags),
        )
        label = None if rule.selector is None else rule.label
        await parts.registry.db.write(_arrived, copy, digest, label, parts.registry.clock.now())
        return watching.bytes

    # --- leaving ------------------------------------------------------------------------------------------------

    async def _depart(self, decided: Decided) -> None:
        registry, run = self._parts.registry, self._run
        now = registry.clock.now()
        due = [each for each in decided.departures.leaving if each.is_due(now)]
        await registry.db.write(leaving.mark, decided.departures)
        for each in decided.departures.leaving:
            if each not in due:
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
        why = await db.write(leaving.remove, self._parts.registry, self._origin, departure)
        if why is None:
            self._result.removed += 1
            await self._run.say(f"{name}: removed: {leaving.reason(departure)}")
        else:
            await self._run.say(f"{name}: stays: {why}")


def _until(departure: Departure) -> str:
    return "; it stays" if departure.goes_at is None else "; it goes when its grace is over"


def _told(error: Exception) -> str:
    detail = error.detail if isinstance(error, RegistryError) else None
    return f"{error}: {detail}" if detail and detail not in str(error) else str(error)


# --- facts ------------------------------------------------------------------------------------------------------


def _plan(tx: Transaction, run: int, decided: Decided, now: float) -> None:
    """Write down what is to be copied, and what turned out to be upstream's already."""
    remaining.replace(tx, run, decided.copies, decided.looked_at, now)
    for each in decided.same:
        origins.record(
            tx, each.repository, each.tag, each.source, each.source_tag, each.digest, each.found_by, each.image, now
        )


def _arrived(tx: Transaction, copy: Copy, digest: Digest, image: str | None, now: float) -> None:
    """The tag points at what upstream has: where it came from, and that it is not left to copy."""
    origins.record(tx, copy.repository, copy.tag, copy.source, copy.source_tag, digest, "mirror", image, now)
    remaining.done(tx, copy.repository, copy.tag)
