"""From rules to what a run would do: upstreams are looked at, then `plan` decides.

Holds: with `quiet` nothing is written, so a plan can be had at any time; a run decides by the same code. A tag of ours
is one image's: the first in the configuration that means it. What any image means, or may mean for all that could be
found out, does not leave because another one does not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from homeport.client.errors import ClientError
from homeport.clock import rfc3339
from homeport.config.settings import Settings
from homeport.db.database import Transaction
from homeport.jobs.summary import Failure
from homeport.mirror import addresses, adoption, holdings, origins, plan
from homeport.mirror.addresses import Source
from homeport.mirror.adoption import Adopted, Adoption
from homeport.mirror.answering import Answering
from homeport.mirror.origins import FoundBy, TagOrigin
from homeport.mirror.plan import Departure, Departures, Here, Step
from homeport.mirror.remaining import Copy
from homeport.mirror.rules import Rule, followed
from homeport.mirror.survey import Look, Survey
from homeport.oci import companions, patterns
from homeport.oci.digest import Digest
from homeport.oci.reference import DOCKER_HUB
from homeport.registry import manifests
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import Upstreams

#: How many repositories are looked at side by side; no more than these are in memory.
_LOOKS_AT_ONCE: Final = 8
_PAGE: Final = 1_000
#: How many repositories of ours are followed.
FOLLOWED_MAX: Final = 100_000


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


@dataclass(frozen=True, slots=True)
class _Weighed:
    """What was looked at, what of it is here, and what that comes to, by tag."""

    look: Look
    here: Mapping[str, Here] = field(default_factory=dict)
    steps: Mapping[str, Step] = field(default_factory=dict)


@dataclass(slots=True)
class Decided:
    """What a run is to do."""

    rules: list[Rule] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    #: Of tags of ours that are what upstream has, and of which nobody had written that down.
    same: list[TagOrigin] = field(default_factory=list)
    waiting: list[Told] = field(default_factory=list)
    theirs: list[Told] = field(default_factory=list)
    braked: list[Braked] = field(default_factory=list)
    departures: Departures = field(default_factory=Departures)
    failures: list[Failure] = field(default_factory=list)
    #: Tags of ours that are followed from now on, or turned out to be our own.
    adopted: list[Adopted] = field(default_factory=list)
    checked: int = 0
    unchanged: int = 0
    #: The images, each with a source of its own, of which everything was found out.
    settled: list[tuple[str, Source]] = field(default_factory=list)
    #: Whole lists of tags that are believed: how many there are.
    believed: dict[Source, int] = field(default_factory=dict)
    #: Of each source, why tags of it are not meant, and which.
    not_meant: dict[Source, dict[str, list[str]]] = field(default_factory=dict)
    #: The whole lists themselves, of the sources that something is copied from.
    tags: dict[Source, frozenset[str]] = field(default_factory=dict)

    def failed(self, what: str, why: str) -> None:
        """Note what could not be found out."""
        self.failures.append(Failure(what, why))


class Planner:
    """One look at everything that the rules mean."""

    def __init__(
        self,
        registry: Registry,
        upstreams: Upstreams,
        settings: Settings,
        answering: Answering | None = None,
        *,
        quiet: bool,
    ) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._settings = settings
        self._quiet = quiet
        self._answering = answering or Answering()
        self._survey = Survey(registry, upstreams, self._answering, quiet=quiet)
        self._decided = Decided()
        #: Which source each tag of ours is meant to come from.
        self._meant: dict[tuple[str, str], Source] = {}
        #: Repositories of ours, and rules, of which not everything could be found out.
        self._unsure: set[str] = set()
        self._unlisted: list[Rule] = []
        self._leaving: list[Departure] = []
        self._back: list[TagOrigin] = []

    async def decide(self, rules: Sequence[Rule], *, follow: bool, everything: bool) -> Decided:
        """What is to be done for these rules, and for what is followed. `everything`: there are no other rules."""
        decided = self._decided
        wanted = await self._sources(rules)
        if follow:
            wanted += await self._followed(wanted)
        decided.rules = list({rule.label: rule for rule in (*rules, *(rule for rule, _ in wanted))}.values())
        await self._look_at(wanted)
        if everything:
            await self._dropped(rules)
        self._keep_what_is_meant()
        copied = {copy.source for copy in decided.copies}
        decided.tags = {source: tags for source, tags in decided.tags.items() if source in copied}
        decided.copies.sort(key=lambda copy: (copy.repository, copy.tag))
        return decided

    async def _sources(self, rules: Sequence[Rule]) -> list[tuple[Rule, Source]]:
        """Each upstream repository once for each rule that means it."""
        found: list[tuple[Rule, Source]] = []
        for rule in rules:
            try:
                found += [(rule, source) for source in await self._survey.sources(rule)]
            except ClientError as error:
                self._decided.failed(rule.label, str(error))
                self._unlisted.append(rule)
        return [(rule, source) for rule, source in found if not self._is_skipped(rule.place(source))]

    def _is_skipped(self, repository: str | None) -> bool:
        skip = self._settings.mirror.skip
        return repository is not None and any(patterns.matches(each, repository) for each in skip)

    async def _look_at(self, wanted: Sequence[tuple[Rule, Source]]) -> None:
        """Look at each, at some ahead of the others, and weigh what is found in their order."""
        ahead: deque[asyncio.Task[_Weighed]] = deque()
        try:
            for rule, source in wanted:
                ahead.append(asyncio.create_task(self._look(rule, source)))
                if len(ahead) == _LOOKS_AT_ONCE:
                    self._weigh(await ahead[0])
                    ahead.popleft()
            while ahead:
                self._weigh(await ahead[0])
                ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _look(self, rule: Rule, source: Source) -> _Weighed:
        look = await self._survey.look(rule, source)
        if not look.answered:
            return _Weighed(look)
        here = await self._registry.db.read(_here, look)
        return _Weighed(look, here, await self._steps(look, here, self._registry.clock.now()))

    # --- what is followed ---------------------------------------------------------------------------------------

    async def _followed(self, named: Sequence[tuple[Rule, Source]]) -> list[tuple[Rule, Source]]:
        """A rule for each repository of ours that came from an upstream and that no image of the configuration has."""
        mirror = self._settings.mirror
        taken = {rule.place(source) for rule, source in named}

        def skip(repository: str) -> bool:
            return repository in taken or self._is_skipped(repository)

        search = Adoption(self._registry, self._upstreams, hosts(self._settings), skip, self._answering)
        self._decided.adopted = await search.find()
        self._decided.failures += search.failures
        now = self._registry.clock.now()
        pairs: set[tuple[str, Source]] = set()
        if self._quiet:
            for each in adoption.origins_of(self._decided.adopted, now):
                self._survey.found.setdefault(each.repository, {})[each.tag] = each
                pairs.add((each.repository, each.source))
        else:
            await self._registry.db.write(adoption.record, self._decided.adopted, now)
        pairs.update(await self._registry.db.read(origins.unnamed, FOLLOWED_MAX))
        wanted = [pair for pair in sorted(pairs) if not skip(pair[0])]
        return [(followed(mirror, source, repository), source) for repository, source in wanted]

    async def _dropped(self, rules: Sequence[Rule]) -> None:
        """What came for an image that the configuration names no more, or not from there to here."""
        by_label, now = {rule.label: rule for rule in rules}, self._registry.clock.now()
        grace = plan.Grace(dropped=self._settings.mirror.dropped)
        after = ("", "")
        while page := await self._registry.db.read(origins.page, after, _PAGE):
            after = (page[-1].repository, page[-1].tag)
            dropped = [each for each in page if self._is_dropped(each, by_label.get(each.image or ""))]
            self._leaving += [plan.departure(each, "dropped", grace, now) for each in dropped]

    def _is_dropped(self, origin: TagOrigin, rule: Rule | None) -> bool:
        if origin.image is None or self._is_skipped(origin.repository) or companions.subject(origin.tag) is not None:
            return False
        return rule is None or not rule.brings(origin)

    # --- one repository -----------------------------------------------------------------------------------------

    async def _steps(self, look: Look, here: Mapping[str, Here], now: float) -> dict[str, Step]:
        """What is to be done about each tag that is meant and that upstream has."""
        rule, meant = look.rule, set(look.selected)
        steps = {
            tag: plan.step(seen, here.get(tag), minimum_age=rule.minimum_age, overwrite=rule.overwrite, now=now)
            for tag, seen in look.seen.items()
            if tag in meant
        }
        for tag, ours in here.items():
            if tag in meant and not ours.whole and ours.is_upstreams and ours.digest == look.seen[tag].digest:
                steps[tag] = await self._of_sparse(look, tag, ours)
        if rule.referrers:
            same = {tag: look.seen[tag].digest for tag, step in steps.items() if step.action == "same"}
            for tag in await self._survey.with_new_referrers(look, same):
                steps[tag] = Step("copy", "something new refers to it")
        return steps

    async def _of_sparse(self, look: Look, tag: str, ours: Here) -> Step:
        """Of an image that was copied and is not whole: upstream may lack the same parts, and then nothing can be done.

        Costs no pull.
        """
        lacking = await self._registry.db.read(holdings.lacking, look.repository, ours.digest, look.rule.platforms)
        try:
            if await self._survey.offers_any(look, lacking):
                return Step("copy", "parts of it are missing")
        except ClientError as error:
            look.failed(tag, str(error))
        return Step("same", "as much of it is here as upstream has")

    def _weigh(self, weighed: _Weighed) -> None:
        """Decide about every tag of what was looked at."""
        decided, look = self._decided, weighed.look
        decided.checked += len(look.seen)
        decided.failures += look.failures
        for tag, why in look.why_not.items():
            decided.not_meant.setdefault(look.source, {}).setdefault(why, []).append(tag)
        if not look.answered:
            self._unsure.add(look.repository)
            return
        if not look.failures:
            decided.settled.append((look.rule.label, look.source))
        for tag in look.selected:
            if self._claim(look, tag) and tag in weighed.steps:
                self._take(look, tag, weighed.steps[tag], weighed.here.get(tag))
        if look.upstream.tags is not None:
            decided.tags[look.source] = look.upstream.tags
        self._weigh_departures(look)

    def _weigh_departures(self, look: Look) -> None:
        """Decide about what came from there before, and whether its list is believed."""
        decided, now = self._decided, self._registry.clock.now()
        # Of a list that is not believed nothing is selected; what came back is back all the same.
        known = {origin.source_tag for origin in look.origins.values()}
        meant = set(look.selected) if look.braked is None else known
        found = plan.departures(look.origins.values(), look.upstream, meant, look.rule.grace, now)
        self._back += found.back
        if look.braked is not None:
            assert look.listed is not None
            decided.braked.append(Braked(look.source, look.braked, look.listed))
            self._unsure.add(look.repository)
            return
        if look.listed is not None:
            decided.believed[look.source] = look.listed
        self._leaving += found.leaving

    def _claim(self, look: Look, tag: str) -> bool:
        """Whether no image before this one means the tag."""
        ours = (look.repository, tag)
        claimed = self._meant.get(ours)
        if claimed is None:
            self._meant[ours] = look.source
            return True
        if claimed != look.source:
            why = f"{look.repository}:{tag} comes from {claimed} already; give one of them another 'target'"
            self._decided.failed(f"{look.source}:{tag}", why)
        return False

    def _take(self, look: Look, tag: str, step: Step, here: Here | None) -> None:
        decided, rule, seen = self._decided, look.rule, look.seen[tag]
        image = None if rule.selector is None else rule.label
        name = f"{look.repository}:{tag}"
        match step.action:
            case "same":
                decided.unchanged += 1
                origin = here.origin if here is not None else None
                if origin is None or (origin.source, origin.digest, origin.image) != (look.source, seen.digest, image):
                    by: FoundBy = "name" if image is None else "mirror"
                    now = self._registry.clock.now()
                    decided.same.append(TagOrigin(look.repository, tag, look.source, tag, seen.digest, by, image, now))
            case "copy":
                decided.copies.append(Copy(look.repository, tag, rule.label, look.source, tag, seen.digest, step.why))
            case "wait":
                assert step.until is not None
                decided.waiting.append(Told(name, f"{step.why}; taken after {rfc3339(int(step.until))}"))
            case "theirs":
                decided.theirs.append(Told(name, step.why))

    def _keep_what_is_meant(self) -> None:
        """Leave those out that leave for one rule and are meant by another, or may be.

        What its own upstream has no more is meant by nobody, although a list of the configuration may name it.
        """
        leaving = []
        for each in self._leaving:
            origin = each.origin
            meant = self._meant.get((origin.repository, origin.tag))
            if meant is None or (meant == origin.source and each.leaving in plan.GONE):
                if not self._may_be_meant(origin):
                    leaving.append(each)
            elif origin.leaving is not None:
                self._back.append(origin)
        self._decided.departures = Departures(tuple(leaving), tuple(self._back))

    def _may_be_meant(self, origin: TagOrigin) -> bool:
        return origin.repository in self._unsure or any(rule.brings(origin) for rule in self._unlisted)


def hosts(settings: Settings) -> dict[str, str]:
    """The upstreams that the operator wrote down, and Docker Hub, by their folders."""
    named = {DOCKER_HUB, *settings.upstreams, *settings.cache.upstreams}
    named |= {image.source.partition("/")[0] for image in settings.mirror.images}
    return addresses.folders(sorted(named))


# --- facts ------------------------------------------------------------------------------------------------------


def _here(tx: Transaction, look: Look) -> dict[str, Here]:
    """What is here of the tags that were seen. It came from where it comes from now, or else for the same image."""
    tags = holdings.tags(tx, look.repository)
    same = {seen.digest for tag, seen in look.seen.items() if tags.get(tag) == seen.digest}
    # Mostly all of them are whole, which one statement tells.
    whole = same if manifests.has_all(tx, look.repository, same) else set[Digest]()
    found: dict[str, Here] = {}
    for tag in look.seen:
        digest = tags.get(tag)
        if digest is not None:
            is_whole = digest in whole or (
                digest in same and holdings.is_whole(tx, look.repository, digest, look.rule.platforms)
            )
            origin = look.known.get(tag)
            is_its = origin is not None and (origin.source == look.source or origin.image == look.rule.label)
            found[tag] = Here(digest, is_whole, origin if is_its else None)
    return found
