"""From rules to what a run would do: upstreams are looked at, then `plan` decides.

Holds: with `quiet` nothing is written, so a plan can be had at any time; a run decides by the same code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from homeport import config
from homeport.client.errors import ClientError
from homeport.clock import rfc3339
from homeport.db.database import Transaction
from homeport.jobs.summary import Failure
from homeport.mirror import addresses, adoption, holdings, origins, plan
from homeport.mirror.addresses import Source
from homeport.mirror.adoption import Adopted, Adoption
from homeport.mirror.origins import FoundBy, TagOrigin
from homeport.mirror.plan import Departures, Here, Step
from homeport.mirror.remaining import Copy
from homeport.mirror.rules import FOLLOWED, Rule, followed
from homeport.mirror.survey import Look, Survey
from homeport.oci import patterns
from homeport.oci.digest import Digest
from homeport.oci.reference import DOCKER_HUB
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import Upstreams

#: How many repositories are looked at side by side.
_LOOKS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Same:
    """A tag of ours that is what upstream has, which nobody had written down."""

    repository: str
    tag: str
    source: Source
    source_tag: str
    digest: Digest
    found_by: FoundBy
    image: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """A tag of which nothing is done, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Braked:
    """An upstream repository whose list of tags is not believed."""

    source: Source
    reason: str
    #: How many tags it has.
    listed: int


@dataclass(slots=True)
class Decided:
    """What a run is to do."""

    rules: list[Rule] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    same: list[Same] = field(default_factory=list)
    waiting: list[Told] = field(default_factory=list)
    theirs: list[Told] = field(default_factory=list)
    braked: list[Braked] = field(default_factory=list)
    departures: Departures = field(default_factory=Departures)
    failures: list[Failure] = field(default_factory=list)
    #: Tags of ours that are followed from now on, or turned out to be our own.
    adopted: list[Adopted] = field(default_factory=list)
    checked: int = 0
    unchanged: int = 0
    #: The images of which everything was asked.
    looked_at: list[str] = field(default_factory=list)
    #: The whole lists of tags that were read, by source.
    tags: dict[str, frozenset[str] | None] = field(default_factory=dict)

    def failed(self, what: str, why: str) -> None:
        """Note what could not be found out."""
        self.failures.append(Failure(what, why))


class Decider:
    """One look at everything that the rules mean."""

    def __init__(
        self, registry: Registry, upstreams: Upstreams, settings: Callable[[], config.Settings], *, quiet: bool
    ) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._settings = settings()
        self._quiet = quiet
        self._survey = Survey(registry, upstreams, quiet=quiet)
        self._decided = Decided()

    async def decide(self, rules: Sequence[Rule], *, follow: bool, everything: bool) -> Decided:
        """What is to be done for these rules, and for what is followed. `everything`: there are no other rules."""
        decided = self._decided
        wanted = await self._sources(rules)
        decided.looked_at = sorted({rule.label for rule, _ in wanted})
        if follow:
            wanted += await self._followed(wanted)
            decided.looked_at.append(FOLLOWED)
        decided.rules = list({rule.label: rule for rule, _ in wanted}.values())
        looks = await self._look_at(wanted)
        for look in looks:
            await self._weigh(look)
        if everything:
            await self._dropped([rule.label for rule in rules])
        decided.copies.sort(key=lambda copy: (copy.repository, copy.tag))
        return decided

    async def _sources(self, rules: Sequence[Rule]) -> list[tuple[Rule, Source]]:
        """Each upstream repository once for each rule that means it."""
        found: list[tuple[Rule, Source]] = []
        for rule in rules:
            try:
                found += [(rule, source) for source in await self._survey.sources(rule)]
            except ClientError as error:
                self._decided.failures.append(Failure(rule.label, str(error)))
        skip = self._settings.mirror.skip
        return [(rule, source) for rule, source in found if not _is_skipped(skip, rule, source)]

    async def _look_at(self, wanted: Sequence[tuple[Rule, Source]]) -> list[Look]:
        looks: list[Look | None] = [None] * len(wanted)
        waiting = iter(enumerate(wanted))

        async def work() -> None:
            for number, (rule, source) in waiting:
                looks[number] = await self._survey.look(rule, source)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_LOOKS_AT_ONCE, len(wanted))):
                group.create_task(work())
        return [look for look in looks if look is not None]

    # --- what is followed ---------------------------------------------------------------------------------------

    async def _followed(self, named: Sequence[tuple[Rule, Source]]) -> list[tuple[Rule, Source]]:
        """A rule for each repository of ours that came from an upstream and that no image of the configuration has."""
        mirror = self._settings.mirror
        taken = {addresses.target(rule.target, source) for rule, source in named}

        def skip(repository: str) -> bool:
            return repository in taken or any(patterns.matches(each, repository) for each in mirror.skip)

        search = Adoption(self._registry, self._upstreams, hosts(self._settings), skip)
        self._decided.adopted = await search.find()
        self._decided.failures += search.failures
        now = self._registry.clock.now()
        if not self._quiet:
            await self._registry.db.write(adoption.record, self._decided.adopted, now)
        pairs = {
            (each.repository, each.source)
            for each in await self._registry.db.read(_origins)
            if each.image is None and not skip(each.repository)
        }
        return [(followed(mirror, source, repository), source) for repository, source in sorted(pairs)]

    async def _dropped(self, labels: Iterable[str]) -> None:
        """What came for an image that the configuration names no more."""
        known, now = set(labels), self._registry.clock.now()
        grace = plan.Grace(dropped=self._settings.mirror.dropped)
        found = [each for each in await self._registry.db.read(_origins) if each.image and each.image not in known]
        leaving = [plan.departure(each, "dropped", grace, now) for each in found]
        self._add(Departures(tuple(leaving)))

    # --- one repository -----------------------------------------------------------------------------------------

    async def _weigh(self, look: Look) -> None:
        """Decide about every tag of what was looked at."""
        decided, now = self._decided, self._registry.clock.now()
        decided.checked += len(look.seen)
        decided.tags[str(look.source)] = look.upstream.tags
        if look.answered:
            if look.braked is not None:
                decided.braked.append(Braked(look.source, look.braked, look.listed))
            here = await self._registry.db.read(_here, look)
            steps = await self._steps(look, here, now)
            for tag, step in sorted(steps.items()):
                self._take(look, tag, step, here.get(tag))
            if look.braked is None:
                meant = set(look.selected)
                self._add(plan.departures(look.origins.values(), look.upstream, meant, look.rule.grace, now))
        decided.failures += look.failures

    async def _steps(self, look: Look, here: Mapping[str, Here], now: float) -> dict[str, Step]:
        """What is to be done about each tag that is meant and that upstream has."""
        rule, meant = look.rule, set(look.selected)
        steps = {
            tag: plan.step(seen, here.get(tag), minimum_age=rule.minimum_age, overwrite=rule.overwrite, now=now)
            for tag, seen in look.seen.items()
            if tag in meant
        }
        if rule.referrers:
            same = {tag: look.seen[tag].digest for tag, step in steps.items() if step.action == "same"}
            for tag in await self._survey.with_new_referrers(look, same):
                steps[tag] = Step("copy", "something new refers to it")
        return steps

    def _take(self, look: Look, tag: str, step: Step, here: Here | None) -> None:
        decided, rule, seen = self._decided, look.rule, look.seen[tag]
        image = None if rule.selector is None else rule.label
        name = f"{look.repository}:{tag}"
        match step.action:
            case "same":
                decided.unchanged += 1
                origin = here.origin if here is not None else None
                if origin is None or origin.digest != seen.digest or origin.image != image:
                    by: FoundBy = "name" if image is None else "mirror"
                    decided.same.append(Same(look.repository, tag, look.source, tag, seen.digest, by, image))
            case "copy":
                decided.copies.append(Copy(look.repository, tag, rule.label, look.source, tag, seen.digest, step.why))
            case "wait":
                assert step.until is not None
                decided.waiting.append(Told(name, f"{step.why}; taken after {rfc3339(int(step.until))}"))
            case "theirs":
                decided.theirs.append(Told(name, step.why))

    def _add(self, found: Departures) -> None:
        before = self._decided.departures
        self._decided.departures = Departures(before.leaving + found.leaving, before.back + found.back)


def hosts(settings: config.Settings) -> dict[str, str]:
    """The upstreams that the operator wrote down, and Docker Hub, by their folders."""
    named = {DOCKER_HUB, *settings.upstreams, *settings.cache.upstreams}
    named |= {image.source.partition("/")[0] for image in settings.mirror.images}
    return addresses.folders(sorted(named))


def _is_skipped(skip: Iterable[str], rule: Rule, source: Source) -> bool:
    try:
        repository = addresses.target(rule.target, source)
    except ValueError:
        return False
    return any(patterns.matches(each, repository) for each in skip)


# --- facts ------------------------------------------------------------------------------------------------------


def _here(tx: Transaction, look: Look) -> dict[str, Here]:
    """What is here of the tags that were seen."""
    tags = holdings.tags(tx, look.repository)
    known = origins.of_repository(tx, look.repository)
    found: dict[str, Here] = {}
    for tag, seen in look.seen.items():
        digest = tags.get(tag)
        if digest is not None:
            whole = digest == seen.digest and holdings.is_whole(tx, look.repository, digest, look.rule.platforms)
            origin = known.get(tag)
            found[tag] = Here(digest, whole, origin if origin and origin.source == look.source else None)
    return found


def _origins(tx: Transaction) -> list[TagOrigin]:
    found: list[TagOrigin] = []
    while page := origins.page(tx, (found[-1].repository, found[-1].tag) if found else ("", ""), 1_000):
        found += page
    return found
