"""Asking upstreams what they have: for each repository of a rule, its list where that is needed, and a HEAD a tag.

Holds: nothing here costs a pull, but for the ages of images. An answer that is not whole is no answer: what depends on
it is left as it is, and said. What is believed of a list is written down with what follows from it, not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from homeport.client.errors import ClientError, NotFound
from homeport.client.referrers import COSIGN_SUFFIXES
from homeport.db.database import Transaction
from homeport.jobs.summary import Failure
from homeport.mirror import addresses, brake, holdings, origins, side_by_side, sightings
from homeport.mirror.addresses import Source
from homeport.mirror.ages import Ages
from homeport.mirror.answering import Answering
from homeport.mirror.holdings import Lack
from homeport.mirror.origins import TagOrigin
from homeport.mirror.plan import Seen, UpstreamTags
from homeport.mirror.rules import Rule
from homeport.mirror.selection import Selected, referrer_wanted, select
from homeport.oci import companions, patterns
from homeport.oci.digest import Digest
from homeport.oci.errors import NameInvalid
from homeport.oci.reference import is_repository
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import Purpose, UpstreamRepository, Upstreams

#: A repository with more tags than this is none that is mirrored by pattern.
TAGS_MAX: Final = 500_000
#: How many repositories one pattern may mean.
REPOSITORIES_MAX: Final = 20_000
#: How many requests for one repository wait for their turn at once; the upstream's gate decides how many go out.
_AT_ONCE: Final = 16


@dataclass(slots=True)
class Look:
    """What was learned of one upstream repository for one rule."""

    rule: Rule
    source: Source
    #: Where it is put.
    repository: str
    upstream: UpstreamTags = field(default_factory=lambda: UpstreamTags(None))
    selected: tuple[str, ...] = ()
    why_not: Mapping[str, str] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    #: Where the tags of the repository came from, as far as that is known.
    known: Mapping[str, TagOrigin] = field(default_factory=dict)
    #: What of them came from this source, for this rule or for none.
    origins: Mapping[str, TagOrigin] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    #: Why the list of its tags is not believed, and how many it has; None: none was read.
    braked: str | None = None
    listed: int | None = None
    #: Whether it could be asked at all.
    answered: bool = True

    def failed(self, tag: str | None, why: str) -> None:
        """Note what could not be asked."""
        self.failures.append(Failure(f"{self.source}:{tag}" if tag else str(self.source), why))


class Survey:
    """One look at upstreams. `quiet`: what is seen is not written down, as for a plan."""

    def __init__(self, registry: Registry, upstreams: Upstreams, answering: Answering, *, quiet: bool) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._answering = answering
        self._quiet = quiet
        self._ages = Ages(registry)
        #: What was found out just now of the origins of our tags and, with `quiet`, not written down.
        self.found: dict[str, dict[str, TagOrigin]] = {}

    async def sources(self, rule: Rule) -> list[Source]:
        """The upstream repositories that the rule means. Raises `ClientError` where they are not listed.

        One that something came from before is among them, whether the list has it or not: it is asked itself.
        """
        if not rule.is_pattern:
            return [Source(rule.host, rule.repositories)]
        known = await self._registry.db.read(origins.sources, rule.label, REPOSITORIES_MAX)
        found = {source for source in known if rule.means(source)}
        with self._answering.asking(rule.host):
            repository = await self._upstreams.repository(rule.host, "-", Purpose.RUNS)
            async for name in repository.remote.catalog():
                if is_repository(name) and patterns.matches(rule.repositories, name):
                    found.add(Source(rule.host, name))
                if len(found) > REPOSITORIES_MAX:
                    raise ClientError(f"{rule.host}: more than {REPOSITORIES_MAX} repositories are {rule.repositories}")
        return sorted(found)

    async def look(self, rule: Rule, source: Source) -> Look:
        """What upstream has of one repository. What fails is in it; raises nothing that an upstream causes."""
        try:
            repository = addresses.target(rule.target, source)
        except NameInvalid:
            look = Look(rule, source, "", answered=False)
            look.failed(None, f"'{rule.target}' gives it a name that no repository can have")
            return look
        look = Look(rule, source, repository)
        written = await self._registry.db.read(origins.of_repository, repository)
        look.known = {**self.found.get(repository, {}), **written}
        look.origins = await self._registry.db.read(_origins, look)
        try:
            with self._answering.asking(source.host):
                upstream = await self._upstreams.repository(*source, Purpose.RUNS)
                await self._ask(look, upstream)
        except ClientError as error:
            look.failed(None, str(error))
            look.answered = False
        return look

    async def _ask(self, look: Look, upstream: UpstreamRepository) -> None:
        names = await self._list(look, upstream) if look.rule.needs_list else None
        if look.upstream.is_gone:
            return
        await self._select(look, upstream, names)
        known = {origin.source_tag for origin in look.origins.values()}
        asked = {*look.selected, *((known - names) if names is not None else ())}
        absent = await self._heads(look, upstream, sorted(asked - look.seen.keys()))
        look.upstream = UpstreamTags(None if look.braked else names, frozenset(look.seen), frozenset(absent))
        for tag in look.selected:
            if tag in absent and tag not in known:
                look.failed(tag, "upstream has no such tag")

    async def _list(self, look: Look, upstream: UpstreamRepository) -> frozenset[str] | None:
        """The whole list of tags; None where upstream has no such repository, which `look` then says."""
        names: set[str] = set()
        try:
            async for tag in upstream.tags():
                names.add(tag)
                if len(names) > TAGS_MAX:
                    raise ClientError(f"{look.source}: has more than {TAGS_MAX} tags")
        except NotFound as error:
            if not error.code:  # Something before the registry says so, such as a proxy.
                raise
            self._answering.answered(look.source.host)
            look.upstream = UpstreamTags(None, is_gone=True)
            if not look.origins:
                look.failed(None, str(error))
            return None
        self._answering.answered(look.source.host)
        before = await self._registry.db.read(sightings.listed, look.source)
        # What an earlier list lacked, and was believed about, is not lost once more.
        known = {each.source_tag for each in look.origins.values() if each.leaving != "gone upstream"}
        why = brake.why_not(len(known), len(known - names), len(names), before)
        look.listed = len(names)
        now = self._registry.clock.now()
        if why is not None and not await self._registry.db.read(brake.is_released, look.source, len(names), now):
            look.braked = why
        return frozenset(names)

    async def _select(self, look: Look, upstream: UpstreamRepository, names: frozenset[str] | None) -> None:
        rule = look.rule
        if rule.selector is None:
            look.selected = tuple(sorted({origin.source_tag for origin in look.origins.values()}))
            return
        chosen = select(rule.selector, names or ())
        if chosen.needs_created:
            chosen = await self._by_age(look, upstream, names or frozenset(), chosen)
        look.selected, look.why_not = chosen.tags, chosen.why_not

    async def _by_age(
        self, look: Look, upstream: UpstreamRepository, names: Iterable[str], chosen: Selected
    ) -> Selected:
        """The selection with the times that it needs; they are read once for each digest. Raises `ClientError`."""
        assert look.rule.selector is not None
        absent = await self._heads(look, upstream, chosen.needs_created)
        digests = {tag: look.seen[tag].digest for tag in chosen.needs_created if tag in look.seen}
        unknown = len(chosen.needs_created) - len(digests) - len(absent)
        if unknown:  # Any of them may be among the newest.
            raise ClientError(f"{unknown} tags could not be asked for, so which are the newest is not known")
        created = await self._ages.of(upstream, digests)
        return select(look.rule.selector, set(names) - (set(chosen.needs_created) - created.keys()), created)

    async def _heads(self, look: Look, upstream: UpstreamRepository, tags: Sequence[str]) -> set[str]:
        """Ask for each of the tags; which of them upstream says not to have."""
        found: dict[str, Digest | None] = {}

        async def ask(tag: str) -> None:
            try:
                with self._answering.asking(look.source.host):
                    head = await upstream.head_manifest(tag)
            except ClientError as error:
                look.failed(tag, str(error))
            else:
                self._answering.answered(look.source.host)
                found[tag] = None if head is None else head.digest

        await side_by_side.each(ask, tags, _AT_ONCE)
        now = self._registry.clock.now()
        known = await self._registry.db.read(sightings.of_tags, look.source, found)
        if not self._quiet:
            await self._registry.db.jot(sightings.record, look.source, found, now)
        for tag, digest in found.items():
            if digest is not None:
                before = known.get(tag)
                same = before is not None and before.digest == digest
                look.seen[tag] = Seen(digest, min(before.first_seen_at, now) if before and same else now)
        return {tag for tag, digest in found.items() if digest is None}

    async def with_new_referrers(self, look: Look, tags: Mapping[str, Digest]) -> set[str]:
        """Those of the tags, which are as upstream has them, that have a referrer there which is not here."""
        found: set[str] = set()
        upstream = await self._upstreams.repository(*look.source, Purpose.RUNS)

        async def ask(tag: str) -> None:
            try:
                with self._answering.asking(look.source.host):
                    if await self._has_new(look, upstream, tags[tag]):
                        found.add(tag)
            except ClientError as error:
                look.failed(tag, str(error))

        await side_by_side.each(ask, tags, _AT_ONCE)
        return found

    async def _has_new(self, look: Look, upstream: UpstreamRepository, subject: Digest) -> bool:
        db, rule = self._registry.db, look.rule
        for referrer in await upstream.referrers(subject):
            if referrer_wanted(referrer.artifact_type, rule.referrer_types, rule.not_referrer_types):
                digest = referrer.descriptor.digest
                if not await db.read(holdings.is_whole, look.repository, digest, rule.platforms):
                    return True
        for suffix in COSIGN_SUFFIXES:
            tag = f"{subject.fallback_tag}.{suffix}"
            if look.upstream.tags is None or tag in look.upstream.tags:
                head = await upstream.head_manifest(tag)
                if head is not None and await db.read(_may_bring, look, tag, head.digest):
                    return True
        return False

    async def offers_any(self, look: Look, lacking: Iterable[Lack]) -> bool:
        """Whether upstream has any of what is lacking here of its images. Raises `ClientError`.

        Asked for a layer as if it were a manifest, distribution 2 answers with 500.
        """
        upstream = await self._upstreams.repository(*look.source, Purpose.RUNS)
        for digest, is_manifest in lacking:
            with self._answering.asking(look.source.host):
                if is_manifest and await upstream.head_manifest(digest) is not None:
                    return True
                if not is_manifest and await upstream.has_blob(digest):
                    return True
        return False


# --- facts ------------------------------------------------------------------------------------------------------


def _origins(tx: Transaction, look: Look) -> dict[str, TagOrigin]:
    """What of the repository came from this source, and is this rule's or nobody's. What belongs to others goes with
    them."""
    known = {
        tag: each for tag, each in look.known.items() if each.source == look.source and companions.subject(tag) is None
    }
    if look.rule.selector is None:
        here = holdings.tags(tx, look.repository)
        return {tag: each for tag, each in known.items() if tag in here}
    ours = (look.rule.label, None)
    return {tag: each for tag, each in known.items() if each.image in ours and each.found_by != "cache"}


def _may_bring(tx: Transaction, look: Look, tag: str, digest: Digest) -> bool:
    """Whether the tag is another one here, and may be what upstream has."""
    if holdings.tag(tx, look.repository, tag) == digest:
        return False
    return look.rule.overwrite or not holdings.is_theirs(tx, look.repository, tag, digest)
