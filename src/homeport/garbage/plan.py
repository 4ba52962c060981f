"""What a cleanup would do: which tags go and which stay, and why; what else goes, and when; how many bytes come back.

Holds: a plan changes nothing, and gives others their turn after every page that it reads. The bytes are those of blobs
that no repository needs in the end, each counted once. What a plan lists is bounded, what it counts is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from homeport.db.database import Transaction
from homeport.garbage import holdings, policy
from homeport.garbage.holdings import Departures, Going, Graces, Holdings
from homeport.garbage.policy import Brisk, Judgement, Uses
from homeport.garbage.sweep import Pace
from homeport.oci import patterns
from homeport.oci.digest import Digest
from homeport.registry import blobs, reviews, uploads
from homeport.registry.registry import Registry
from homeport.registry.retention import Decision, belongs_to, protected_by
from homeport.registry.uploads import Resting

#: How many things of a kind are listed by name unless somebody wants all of them.
LISTED: Final = 10
#: How many reasons of one repository are told apart.
REASONS_MAX: Final = 100
#: Uploads are listed up to so many.
UPLOADS_MAX: Final = 1_000

_OTHERS: Final = "other reasons"
_COMPANIONS: Final = "signatures and attestations, which go with what they belong to"


@dataclass(slots=True)
class Group:
    """Tags of a repository that stay, or go, for the same reason; the first of them by name."""

    reason: str
    count: int = 0
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RepositoryPlan:
    """What becomes of what a repository holds."""

    repository: str
    tags: int = 0
    tags_going: int = 0
    goes: list[Group] = field(default_factory=list)
    stays: list[Group] = field(default_factory=list)
    #: What nothing refers to already, the next to go first; and how much there is of it.
    unreferenced: list[Going] = field(default_factory=list)
    unreferenced_count: int = 0
    #: The pattern by which nothing goes by itself.
    protected_by: str | None = None


@dataclass(slots=True)
class Amount:
    """How much goes: links to manifests and to blobs, and what no repository links after that."""

    manifests: int = 0
    blobs: int = 0
    #: Blobs, manifests among them, that no repository needs any more, and their bytes.
    freed: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Plan:
    """What a run at `at` would do, and what follows from it."""

    at: float
    repositories: list[RepositoryPlan] = field(default_factory=list)
    tags: int = 0
    tags_going: int = 0
    #: In the end, if nothing is pushed, pulled or used meanwhile; and at once.
    in_all: Amount = field(default_factory=Amount)
    at_once: Amount = field(default_factory=Amount)
    #: Uploads of which no byte came for a while, the longest first.
    uploads: Sequence[Resting] = ()

    @property
    def going(self) -> dict[str, tuple[int, int]]:
        """How many tags go of how many, for each repository that loses any."""
        return {each.repository: (each.tags_going, each.tags) for each in self.repositories if each.tags_going}


class _Tally:
    """Counts what goes, over all repositories. Of what is linked more than once it remembers how often it has gone."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._shared: dict[str, list[int]] = {}

    def add(self, going: Iterable[Going], links: Mapping[str, int]) -> None:
        """What goes of a repository; `links`: how many repositories link each."""
        for each in going:
            is_now = each.at <= self._plan.at
            for amount in (self._plan.in_all, self._plan.at_once) if is_now else (self._plan.in_all,):
                amount.manifests += each.is_manifest
                amount.blobs += not each.is_manifest
            count = links.get(each.digest, 1)
            gone, gone_now = 1, int(is_now)
            if count > 1:
                shared = self._shared.setdefault(each.digest, [0, 0])
                shared[0] += 1
                shared[1] += is_now
                gone, gone_now = shared
            self._free(each.size, is_last=gone == count, is_last_now=is_now and gone_now == count)

    def free(self, size: int) -> None:
        """A blob that no repository links already."""
        self._free(size, is_last=True, is_last_now=True)

    def _free(self, size: int, *, is_last: bool, is_last_now: bool) -> None:
        for amount, is_free in ((self._plan.in_all, is_last), (self._plan.at_once, is_last_now)):
            amount.freed += is_free
            amount.bytes += size if is_free else 0


@dataclass(frozen=True, slots=True)
class _Ends:
    """What the tags of a repository, and those who use its images, say of its manifests."""

    repository_id: int
    #: The digests that stay for themselves.
    roots: list[str]
    #: Those that lose a tag.
    untagged: list[str]
    #: What belongs to a manifest by its tag, and to which.
    companions: list[tuple[str, str]]

    @classmethod
    def of(cls, registry: Registry, judgement: Judgement, uses: Uses, *, tags_go: bool) -> _Ends:
        """Those of a repository, once its tags are decided about."""
        retention = registry.rules.retention
        ends = cls(judgement.repository_id, [*uses.get(judgement.repository_id, ())], [], [])
        for decision in judgement.decisions:
            tag = decision.tag
            if tag.companion_of is not None:
                ends.companions.append((tag.digest, tag.companion_of))
            if tags_go and not decision.keeps:
                ends.untagged.append(tag.digest)
            elif policy.is_root(retention, judgement.repository, tag.name):
                ends.roots.append(tag.digest)
        return ends

    def going(self, held: Holdings, graces: Graces, now: float, listed: int) -> tuple[Departures, list[Going], int]:
        """What goes of what the repository holds; the first `listed` that nothing refers to, and how many those are."""
        for digest, subject in self.companions:
            held.belong(digest, subject)
        found = held.going(self.roots, self.untagged, graces, now)
        return found, found.next(listed), found.count_first()


# --- flows ------------------------------------------------------------------------------------------------------


async def plan(
    registry: Registry,
    *,
    matching: str = "**",
    untagged_seconds: float | None = None,
    tags_go: bool = True,
    listed: int = LISTED,
    pace: Pace | None = None,
) -> Plan:
    """What a run would do now, in the repositories that `matching` means, and what follows from it.

    `untagged_seconds`: instead of the configured graces. `tags_go`: false where the policy is not applied, so that
    only what goes without it is counted. `listed`: how many names are told for each reason. Raises `DatabaseError`.
    """
    pace = pace or Brisk(registry.clock, lambda: False)
    found = Plan(registry.clock.now())
    tally = _Tally(found)
    uses = await policy.in_use(registry, pace)
    threads = registry.clock.threads("plan", 1)
    try:
        async for judgement in policy.judged(registry, pace, matching=matching, uses=uses):
            told, ends = await threads.run(_told, registry, judgement, uses, listed, tags_go=tags_go)
            del judgement  # It is most of the memory, where a repository has many tags.
            found.repositories.append(told)
            found.tags += told.tags
            found.tags_going += told.tags_going
            if told.protected_by is not None or not await _has_candidates(registry, ends):
                continue
            held = await holdings.read(registry, pace, told.repository, ends.repository_id)
            graces = Graces.of(registry, told.repository, untagged_seconds)
            going, told.unreferenced, told.unreferenced_count = await threads.run(
                ends.going, held, graces, found.at, listed
            )
            for page in going.pages(policy.PAGE):
                pace.begin()
                tally.add(page, await registry.db.read(blobs.link_counts, [each.digest for each in page]))
                await pace.rest()
    finally:
        threads.close()
    if matching == "**":
        await _add_unlinked(registry, pace, tally)
    before = found.at - registry.rules.moving_seconds
    resting = await registry.db.read(uploads.resting, before, UPLOADS_MAX)
    found.uploads = [upload for upload in resting if patterns.matches(matching, upload.repository)]
    return found


async def _has_candidates(registry: Registry, ends: _Ends) -> bool:
    """Whether anything may go: whatever nothing refers to has somebody who looks at it."""
    if ends.untagged:
        return True
    first = await registry.db.read(reviews.after, ends.repository_id, "", 1)
    return bool(first) and first[0].repository_id == ends.repository_id


async def _add_unlinked(registry: Registry, pace: Pace, tally: _Tally) -> None:
    """What no repository links already: each has somebody who looks at it."""
    after = ""
    while True:
        pace.begin()
        page = await registry.db.read(_unlinked, after)
        for _, size in page.found:
            tally.free(size)
        await pace.rest()
        if page.next is None:
            return
        after = page.next


# --- decisions --------------------------------------------------------------------------------------------------


def _told(
    registry: Registry, judgement: Judgement, uses: Uses, listed: int, *, tags_go: bool
) -> tuple[RepositoryPlan, _Ends]:
    return tell_tags(registry, judgement, listed), _Ends.of(registry, judgement, uses, tags_go=tags_go)


def tell_tags(registry: Registry, judgement: Judgement, listed: int) -> RepositoryPlan:
    """Which tags go and which stay, by the reason."""
    groups: dict[tuple[bool, str], Group] = {}
    for decision in judgement.decisions:
        key = decision.keeps, _reason(decision)
        if key not in groups and len(groups) >= REASONS_MAX:
            key = decision.keeps, _OTHERS
        group = groups.setdefault(key, Group(key[1]))
        group.count += 1
        if len(group.tags) < listed:
            group.tags.append(decision.tag.name)
    goes = [group for (keeps, _), group in groups.items() if not keeps]
    return RepositoryPlan(
        judgement.repository,
        tags=len(judgement.decisions),
        tags_going=sum(group.count for group in goes),
        goes=goes,
        stays=[group for (keeps, _), group in groups.items() if keeps],
        protected_by=protected_by(registry.rules.retention, judgement.repository),
    )


def _reason(decision: Decision) -> str:
    subject = decision.tag.companion_of
    return _COMPANIONS if subject is not None and decision.reason == belongs_to(subject) else decision.reason


# --- facts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Unlinked:
    """Blobs that no repository links, with their sizes, and where the next page begins."""

    found: list[tuple[Digest, int]]
    next: str | None


def _unlinked(tx: Transaction, after: str) -> _Unlinked:
    page = reviews.after(tx, reviews.BLOB, after, policy.PAGE)
    digests = [review.digest for review in page if review.repository_id == reviews.BLOB]
    is_last = len(digests) < policy.PAGE
    return _Unlinked(blobs.unlinked(tx, digests), None if is_last else digests[-1])
