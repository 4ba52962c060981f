"""The retention policy as it is applied: what it says of every tag, and taking those away that it does not keep.

Holds:
- All that is known of a tag is read in pages, repository by repository, and others have their turn after each of them.
- A tag goes in a transaction that finds it as it was when it was decided about: pushed, pulled or used meanwhile, it
  stays. So does everything from the moment on at which the rules are others, or nothing may be deleted any more.
- An engine that never told what it runs stops the policy everywhere: nobody knows what must stay for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from homeport.clock import Threads
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.garbage import totals
from homeport.garbage.sweep import Pace
from homeport.oci import companions, patterns
from homeport.oci.digest import Digest
from homeport.oci.errors import TagImmutable
from homeport.registry import manifests, protections, pulls, repositories, standing, tags
from homeport.registry.registry import Registry
from homeport.registry.retention import Decision, Retention, Tagged, decide, immutable_by, protected_by

#: How many rows are read in one go: a thousandth of a second or two.
PAGE: Final = 250
#: How many tags go in one transaction, during which nobody else is served.
BATCH: Final = 8
#: More tags than this are decided about in a thread.
DECIDED_AT_ONCE: Final = 1_000

#: Who uses what, by the repository's id and the digest, in a sentence.
Uses: TypeAlias = Mapping[int, Mapping[str, str]]


class Brisk(Pace):
    """Gives others their turn after each step, and rests no longer: where a person waits."""

    async def rest(self) -> None:
        await self.clock.sleep(0)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the policy says of the tags of one repository, by name."""

    repository: str
    repository_id: int
    decisions: Sequence[Decision]


@dataclass(frozen=True, slots=True)
class Removal:
    """The tags of a repository that are to go, out of so many. They are all that a run remembers of a judgement."""

    repository: str
    repository_id: int
    total: int
    tags: Sequence[Decision]


# --- flows: deciding --------------------------------------------------------------------------------------------


async def judged(
    registry: Registry, pace: Pace, *, uses: Uses, matching: str = "**", only_ruled: bool = False
) -> AsyncIterator[Judgement]:
    """What becomes of each tag of the repositories that `matching` means, one repository after the other.

    `only_ruled`: of those that no rule decides about only the name, without a decision.
    """
    retention = registry.rules.retention
    threads = registry.clock.threads("policy", 1)
    try:
        after = ""
        while page := await registry.db.read(repositories.every, after, PAGE):
            for repository_id, name in page:
                if not patterns.matches(matching, name):
                    continue
                if only_ruled and not is_ruled(retention, name):
                    yield Judgement(name, repository_id, ())
                else:  # Nothing here keeps it: of a large repository it is much.
                    yield await _judgement(registry, pace, threads, name, repository_id, uses)
            after = page[-1][1]
    finally:
        threads.close()


async def removals(registry: Registry, pace: Pace) -> tuple[list[Removal], int]:
    """The tags that no rule keeps, by repository, and how many tags there are in all."""
    found: list[Removal] = []
    total = 0
    async for judgement in judged(registry, pace, uses=await in_use(registry, pace), only_ruled=True):
        going = [decision for decision in judgement.decisions if not decision.keeps]
        count = len(judgement.decisions) or await registry.db.read(tags.count, judgement.repository_id)
        total += count
        if going:
            found.append(Removal(judgement.repository, judgement.repository_id, count, going))
    return found, total


async def judge(registry: Registry, repository: str) -> Judgement | None:
    """What becomes of each tag of one repository; None where there is none of this name."""
    repository_id = await registry.db.read(repositories.find, repository)
    if repository_id is None:
        return None
    pace, threads = Brisk(registry.clock, lambda: False), registry.clock.threads("policy", 1)
    try:
        return await _judgement(registry, pace, threads, repository, repository_id, await in_use(registry, pace))
    finally:
        threads.close()


async def in_use(registry: Registry, pace: Pace) -> Uses:
    """What is used in each repository: what engines tell of, and every manifest that names something of it."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for digest, sentence in (await registry.db.read(protections.reasons)).items():
        pace.begin()
        for repository_id, using in await registry.db.read(_using, digest):
            found[repository_id].setdefault(using, sentence)
        await pace.rest()
    return found


def is_ruled(retention: Retention, repository: str) -> bool:
    """Whether a rule decides about tags of the repository, and nothing keeps all of them."""
    if protected_by(retention, repository) is not None:
        return False
    return any(rule.decides and patterns.matches(rule.repositories, repository) for rule in retention.keep)


def is_root(retention: Retention, repository: str, tag: str) -> bool:
    """Whether a tag of this name keeps what it points at: those of signatures do not, unless they never change."""
    return companions.subject(tag) is None or immutable_by(retention, repository, tag) is not None


async def _tagged(
    registry: Registry, pace: Pace, retention: Retention, repository: str, repository_id: int, uses: Mapping[str, str]
) -> list[Tagged]:
    """What has to be known of every tag of the repository."""
    asks_for_pulls = any(
        rule.pulled_within is not None and patterns.matches(rule.repositories, repository) for rule in retention.keep
    )
    read = _page_with_pulls if asks_for_pulls else _page
    found: list[Tagged] = []
    while True:
        pace.begin()
        page = await registry.db.read(read, repository_id, found[-1].name if found else "", uses)
        found += page
        await pace.rest()
        if len(page) < PAGE:
            return found


async def _judgement(
    registry: Registry, pace: Pace, threads: Threads, repository: str, repository_id: int, uses: Uses
) -> Judgement:
    retention, now = registry.rules.retention, registry.clock.now()
    found = await _tagged(registry, pace, retention, repository, repository_id, uses.get(repository_id, {}))
    if len(found) <= DECIDED_AT_ONCE:
        return Judgement(repository, repository_id, decide(retention, repository, found, now))
    decisions = await threads.run(decide, retention, repository, found, now)
    return Judgement(repository, repository_id, decisions)


# --- flows: taking away -----------------------------------------------------------------------------------------


async def remove(
    registry: Registry,
    pace: Pace,
    origin: Origin,
    found: Iterable[Removal],
    retention: Retention,
    decided_at: float,
    may_go_on: Callable[[], Awaitable[bool]],
) -> int:
    """Take these tags away, as far as they are as they were at `decided_at`; how many those were.

    `retention`: the rules when it was begun to decide.
    """
    count = 0
    for removal in found:
        for first in range(0, len(removal.tags), BATCH):
            if registry.rules.retention != retention or not await may_go_on():
                return count
            pace.begin()
            some = removal.tags[first : first + BATCH]
            count += await registry.db.write(_remove, registry, origin, removal, some, decided_at)
            await pace.rest()
    return count


# --- facts ------------------------------------------------------------------------------------------------------


def _page(tx: Transaction, repository_id: int, after: str, uses: Mapping[str, str]) -> list[Tagged]:
    rows = tx.all(
        "SELECT name, digest, pushed_at FROM tag_targets WHERE repository_id = ? AND name > ? ORDER BY name LIMIT ?",
        (repository_id, after, PAGE),
    )
    return [_known(tx, repository_id, name, digest, pushed_at, None, uses) for name, digest, pushed_at in rows]


def _page_with_pulls(tx: Transaction, repository_id: int, after: str, uses: Mapping[str, str]) -> list[Tagged]:
    rows = tx.all(
        "SELECT name, digest, pushed_at, by_name, by_digest, of_child FROM tag_pulls"
        " WHERE repository_id = ? AND name > ? ORDER BY name LIMIT ?",
        (repository_id, after, PAGE),
    )
    return [
        _known(tx, repository_id, name, digest, pushed_at, max(filter(None, pulled), default=None), uses)
        for name, digest, pushed_at, *pulled in rows
    ]


def _known(
    tx: Transaction,
    repository_id: int,
    name: str,
    digest: str,
    pushed_at: float,
    pulled_at: float | None,
    uses: Mapping[str, str],
) -> Tagged:
    subject = companions.subject(name)
    here = None if subject is None else manifests.beginning_with(tx, repository_id, subject)
    return Tagged(name, Digest(digest), pushed_at, pulled_at, uses.get(digest), here)


def _using(tx: Transaction, digest: str) -> list[tuple[int, str]]:
    """The digest in every repository that has it, and all that names it there, directly or not."""
    found: list[tuple[int, str]] = []
    for (repository_id,) in tx.all("SELECT repository_id FROM held_blobs WHERE digest = ?", (digest,)):
        waiting, seen = [digest], {digest}
        while waiting:
            one = waiting.pop()
            found.append((repository_id, one))
            rows = tx.all(
                "SELECT manifest FROM manifest_names WHERE repository_id = ? AND digest = ?", (repository_id, one)
            )
            above = {manifest for (manifest,) in rows} - seen
            seen |= above
            waiting += sorted(above)
    return found


def _remove(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    removal: Removal,
    decisions: Sequence[Decision],
    decided_at: float,
) -> int:
    count = 0
    for decision in decisions:
        tag = tags.find(tx, removal.repository_id, decision.tag.name)
        if tag is None or (tag.digest, tag.pushed_at) != (decision.tag.digest, decision.tag.pushed_at):
            continue
        if _is_wanted(tx, removal, decision, decided_at):
            continue
        try:
            reason = f"cleanup: {decision.reason}"
            tags.remove(tx, registry, origin, removal.repository, removal.repository_id, tag, reason=reason)
        except TagImmutable:
            continue
        count += 1
    totals.add(tx, {"tags": count})
    return count


def _is_wanted(tx: Transaction, removal: Removal, decision: Decision, decided_at: float) -> bool:
    """Whether somebody pulled the tag since it was decided about, or uses it now."""
    for reference in (decision.tag.name, decision.tag.digest):
        pulled = pulls.last(tx, removal.repository, reference)
        if pulled is not None and pulled.pulled_at >= decided_at:
            return True
    return standing.in_use(tx, removal.repository_id, decision.tag.digest) is not None
