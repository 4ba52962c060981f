"""Why a tag, a manifest or a blob is here: every reason, and where there is none, since when and until when.

Holds: what is said is what is done: a tag's reason is the policy's, that of everything else `registry/standing.py`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from homeport.db.database import Transaction
from homeport.garbage import policy
from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestUnknown, NameUnknown
from homeport.registry import standing
from homeport.registry.registry import Registry
from homeport.registry.retention import Decision, why_protected
from homeport.registry.standing import Link, Verdict

#: How many of the tags and manifests that keep something are told.
KEEPERS_MAX: Final = 20
PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, as a sentence goes on: `kept: tag latest`."""

    keeps: bool
    text: str
    #: Of what goes: since when nothing refers to it.
    since: float | None = None
    #: When it goes; of what is kept for a time, when that ends. None: with the next run, or when the reason ends.
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A tag or a digest, and every reason."""

    name: str
    digest: Digest
    reasons: list[Reason]


# --- flows ------------------------------------------------------------------------------------------------------


async def of_tag(registry: Registry, repository: str, name: str) -> Found:
    """Why the tag stays, or goes. Raises `NameUnknown`, `ManifestUnknown`."""
    for decision in await _decisions(registry, repository):
        if decision.tag.name == name:
            return await _of_decision(registry, repository, decision)
    raise ManifestUnknown(f"{repository}:{name}")


async def of_digest(registry: Registry, repository: str, digest: Digest) -> Found:
    """Why the manifest or blob stays, or goes. Raises `ManifestUnknown`."""
    found = await registry.db.read(_of_digest, registry, repository, digest)
    if found is None:
        raise ManifestUnknown(f"{repository}@{digest}")
    return found


async def of_repository(registry: Registry, repository: str) -> AsyncIterator[Found]:
    """Every tag of the repository, and every manifest that no tag points at. Raises `NameUnknown`."""
    for decision in await _decisions(registry, repository):
        yield await _of_decision(registry, repository, decision)
    after = ""
    while page := await registry.db.read(_manifests, repository, after):
        for digest, is_tagged in page:
            found = None if is_tagged else await registry.db.read(_of_digest, registry, repository, digest)
            if found is not None:
                yield found
            after = digest
        await registry.clock.sleep(0)


async def _decisions(registry: Registry, repository: str) -> list[Decision]:
    judgement = await policy.judge(registry, repository)
    if judgement is None:
        raise NameUnknown(repository)
    return list(judgement.decisions)


async def _of_decision(registry: Registry, repository: str, decision: Decision) -> Found:
    tag = decision.tag
    found = _told(repository, decision)
    if tag.companion_of is None and not policy.is_root(registry.rules.retention, repository, tag.name):
        # It names a subject that is not here, so it keeps nothing, and goes with what it points at.
        manifest = await of_digest(registry, repository, tag.digest)
        return Found(found.name, tag.digest, manifest.reasons)
    return found


def _told(repository: str, decision: Decision) -> Found:
    tag = decision.tag
    reasons = [Reason(decision.keeps, decision.reason)]
    if tag.in_use is not None and tag.in_use != decision.reason:
        reasons.append(Reason(keeps=True, text=tag.in_use))
    return Found(f"{repository}:{tag.name}", tag.digest, reasons)


# --- facts ------------------------------------------------------------------------------------------------------


def _manifests(tx: Transaction, repository: str, after: str) -> list[tuple[Digest, bool]]:
    """A page of the manifests of the repository, and whether a tag keeps each."""
    rows = tx.all(
        "SELECT h.digest, EXISTS (SELECT 1 FROM link_keepers k WHERE k.repository_id = h.repository_id"
        " AND k.digest = h.digest AND k.kind = 'tag')"
        " FROM held_manifests h WHERE h.repository = ? AND h.digest > ? ORDER BY h.digest LIMIT ?",
        (repository, after, PAGE),
    )
    return [(Digest(digest), bool(is_tagged)) for digest, is_tagged in rows]


def _of_digest(tx: Transaction, registry: Registry, repository: str, digest: Digest) -> Found | None:
    row = tx.one("SELECT repository_id FROM held_blobs WHERE repository = ? AND digest = ?", (repository, digest))
    link = standing.find(tx, row[0], digest) if row else None
    if link is None:
        return None
    return Found(f"{repository}@{digest}", digest, _reasons(tx, registry, link))


def _reasons(tx: Transaction, registry: Registry, link: Link) -> list[Reason]:
    found = standing.of(tx, registry, link)
    texts = [found.reason] if found.verdict is Verdict.KEPT else []
    texts += _keepers(tx, link)
    if (why := why_protected(registry.rules.retention, link.repository)) is not None:
        texts.append(why)
    if (use := standing.in_use(tx, link.repository_id, link.digest)) is not None:
        texts.append(use)
    reasons = [Reason(keeps=True, text=text) for text in dict.fromkeys(texts)]
    if link.keep_until > registry.clock.now():
        reasons.append(Reason(keeps=True, text="a client may rely on it", until=link.keep_until))
    if not texts:
        what = "untagged" if link.manifest_id is not None else "no manifest names it"
        at = max(standing.goes_at(registry, link), found.until)
        reasons.append(Reason(keeps=False, text=what, since=link.released_at, until=at))
    return reasons


def _keepers(tx: Transaction, link: Link) -> list[str]:
    """The tags and manifests that keep it. A subject is not among them: whether it does is `standing.of`'s to say."""
    rows = tx.all(
        "SELECT kind, keeper FROM link_keepers WHERE repository_id = ? AND digest = ? AND kind IN ('tag', 'manifest')"
        " LIMIT ?",
        (link.repository_id, link.digest, KEEPERS_MAX),
    )
    return [f"tag {keeper}" if kind == "tag" else f"{keeper} names it" for kind, keeper in rows]
