"""Why a repository goes on offering something, or since when it need not.

Holds: *what keeps a link* is a tag; a manifest that names it; the subject that it belongs to; a protection; a promise
to a client; the grace after its last reference was lost; an upload on whose behalf somebody may rely on it. In doubt it
is kept. The sweep, the plan and `homeport cleanup why` all ask here, so what is said is what is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from homeport.db.database import Transaction
from homeport.oci.digest import Digest
from homeport.registry import protections, tags, uploads
from homeport.registry.registry import Registry
from homeport.registry.retention import immutable_by, why_protected

#: How many references are looked at to find out whether a subject belongs to itself, and how many manifests to find out
#: whether something in one is in use. More: it is kept.
_WALK_MAX: Final = 1_000
#: What belongs to so many subjects that are here is kept, without a look at whether those belong to it.
_SUBJECTS_MAX: Final = 16
#: When something is looked at again that is kept by what can end without a word: a protection, an upload.
RECHECK_SECONDS: Final = 3600.0


class Verdict(Enum):
    """What becomes of a link."""

    #: Something refers to it. When that ends, it is looked at again.
    KEPT = auto()
    #: Nothing refers to it, and it stays until a moment, when it is looked at again.
    WAITS = auto()
    #: It may go.
    GOES = auto()


@dataclass(frozen=True, slots=True)
class Standing:
    """What becomes of a link, and why, as a sentence goes on: `kept: tag latest`."""

    verdict: Verdict
    reason: str
    #: When to look again.
    until: float = 0.0
    #: Since when nothing refers to it, where that is so.
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A repository's hold on a digest, with its ages. `manifest_id`: it is a manifest."""

    repository: str
    repository_id: int
    digest: Digest
    size: int | None
    linked_at: float
    keep_until: float
    released_at: float
    manifest_id: int | None


# --- facts ------------------------------------------------------------------------------------------------------


def find(tx: Transaction, repository_id: int, digest: str) -> Link | None:
    """The link, if there is one."""
    row = tx.one(
        "SELECT repository, repository_id, digest, size, linked_at, keep_until, released_at, manifest_id"
        " FROM link_ages WHERE repository_id = ? AND digest = ?",
        (repository_id, digest),
    )
    return Link(row[0], row[1], Digest(row[2]), *row[3:]) if row else None


def of(tx: Transaction, registry: Registry, link: Link, untagged_seconds: float | None = None) -> Standing:
    """What becomes of the link now. `untagged_seconds` instead of the configured graces, which a person may shorten."""
    keeper = _keeper(tx, registry, link)
    if keeper is not None:
        return Standing(Verdict.KEPT, keeper)
    now = registry.clock.now()
    since = link.released_at
    if (why := _protected(tx, registry, link)) is not None:
        return Standing(Verdict.WAITS, why, now + RECHECK_SECONDS, since)
    if link.keep_until > now:
        return Standing(Verdict.WAITS, "a client may rely on it", link.keep_until, since)
    end = since + _grace(registry, link, untagged_seconds)
    what = "untagged" if link.manifest_id is not None else "no manifest names it"
    if end > now:
        return Standing(Verdict.WAITS, what, end, since)
    began = uploads.oldest_moving(tx, link.repository, now - registry.rules.moving_seconds)
    if began is not None and link.keep_until >= began:
        # Whoever pushes this image was told that it is here, and is still busy with another part of it.
        return Standing(
            Verdict.WAITS, "an upload that began while it was promised goes on", now + RECHECK_SECONDS, since
        )
    return Standing(Verdict.GOES, what, since=since)


def goes_at(registry: Registry, link: Link) -> float:
    """When a link may go to which nothing refers, as far as promise and grace decide it."""
    return max(link.keep_until, link.released_at + _grace(registry, link, None))


def _protected(tx: Transaction, registry: Registry, link: Link) -> str | None:
    if (why := why_protected(registry.rules.retention, link.repository)) is not None:
        return why
    if link.manifest_id is None:  # What nothing names, nobody runs.
        return None
    engines = registry.rules.engines
    if engines and (unknown := protections.unknown_engines(tx, engines)):
        return f"engine {unknown[0]} has never told what it runs"
    return in_use(tx, link.repository_id, link.digest)


def in_use(tx: Transaction, repository_id: int, digest: Digest) -> str | None:
    """Who uses it, or something that it names, such as the config by which an engine knows an image; None: nobody."""
    if not tx.one("SELECT 1 FROM protected_digests LIMIT 1"):
        return None
    if (why := protections.why(tx, digest)) is not None:
        return why
    waiting: list[str] = [digest]
    seen = {str(digest)}
    while waiting:
        if len(seen) > _WALK_MAX:
            return f"it names more than {_WALK_MAX} manifests, and something is in use"
        manifest = (repository_id, waiting.pop())
        row = tx.one(
            "SELECT digest FROM named_digests n WHERE repository_id = ? AND manifest = ?"
            " AND EXISTS (SELECT 1 FROM protected_digests p WHERE p.digest = n.digest) LIMIT 1",
            manifest,
        )
        if row is not None:
            return protections.why(tx, row[0])
        named = tx.all(
            "SELECT digest FROM named_digests n WHERE repository_id = ? AND manifest = ? AND EXISTS (SELECT 1"
            " FROM held_manifests h WHERE h.repository_id = n.repository_id AND h.digest = n.digest)",
            manifest,
        )
        new = {child for (child,) in named} - seen
        seen |= new
        waiting += sorted(new)
    return None


def _grace(registry: Registry, link: Link, untagged_seconds: float | None) -> float:
    if untagged_seconds is not None:
        return untagged_seconds
    if link.manifest_id is None:
        return registry.rules.grace_seconds
    return registry.rules.untagged_seconds_of(link.repository)


def _keeper(tx: Transaction, registry: Registry, link: Link) -> str | None:
    """What refers to the link: a tag before a manifest before a subject."""
    where = (link.repository_id, link.digest)
    if not tx.one("SELECT 1 FROM link_keepers WHERE repository_id = ? AND digest = ? LIMIT 1", where):
        return None if link.manifest_id is None else _immutable(tx, registry, link, link.manifest_id)
    if (tag := _first(tx, link, "tag")) is not None:
        return f"tag {tag}"
    if link.manifest_id is not None and (by := _immutable(tx, registry, link, link.manifest_id)) is not None:
        return by
    if (manifest := _first(tx, link, "manifest")) is not None:
        return f"{manifest} names it"
    subjects = _subjects(tx, link)
    for subject in subjects:
        is_one_of_many = len(subjects) == _SUBJECTS_MAX
        if is_one_of_many or _lives(tx, registry, link.repository_id, subject, without=link.digest):
            return f"its subject {subject} is here"
    return None


def _immutable(tx: Transaction, registry: Registry, link: Link, manifest_id: int) -> str | None:
    """A tag that never changes is never deleted, also where it would not keep anything by itself."""
    rules = registry.rules.retention
    if not rules.immutable:
        return None
    by = (immutable_by(rules, link.repository, tag.name) for tag in tags.of_manifest(tx, manifest_id))
    return next((f"immutable: {each}" for each in by if each is not None), None)


def _first(tx: Transaction, link: Link, kind: str) -> str | None:
    row = tx.one(
        "SELECT keeper FROM link_keepers WHERE repository_id = ? AND digest = ? AND kind = ? LIMIT 1",
        (link.repository_id, link.digest, kind),
    )
    return row[0] if row else None


def _subjects(tx: Transaction, link: Link) -> list[str]:
    """What it belongs to, by its manifest and by its tags."""
    rows = tx.all(
        "SELECT DISTINCT keeper FROM link_keepers WHERE repository_id = ? AND digest = ? AND kind = 'subject' LIMIT ?",
        (link.repository_id, link.digest, _SUBJECTS_MAX),
    )
    return [subject for (subject,) in rows]


def _lives(tx: Transaction, registry: Registry, repository_id: int, subject: str, *, without: str) -> bool:
    """Whether the subject is here for more than the sake of what belongs to it.

    An index may name its own subject as a child; each would keep the other for ever. So the way up from the subject is
    looked at, to what refers to it and to what refers to that: only one that leads back to `without`, and to nothing
    that stands on its own, means no.
    """
    waiting, seen, returns, looked_at = [subject], {subject}, False, 0
    while waiting:
        digest = waiting.pop()
        keepers = tx.all(
            "SELECT kind, keeper FROM link_keepers WHERE repository_id = ? AND digest = ? LIMIT ?",
            (repository_id, digest, _WALK_MAX),
        )
        looked_at += len(keepers)
        if looked_at >= _WALK_MAX or any(kind == "tag" for kind, _ in keepers):
            return True
        for _, keeper in keepers:
            if keeper == without:
                returns = True
            elif keeper not in seen:
                seen.add(keeper)
                waiting.append(keeper)
    return not returns or any(_rests(tx, registry, repository_id, digest) for digest in sorted(seen))


def _rests(tx: Transaction, registry: Registry, repository_id: int, digest: str) -> bool:
    """Whether it stays, for a while or for ever, although nothing that refers to it does."""
    link = find(tx, repository_id, digest)
    if link is None:
        return False
    if link.manifest_id is not None and _immutable(tx, registry, link, link.manifest_id) is not None:
        return True
    return goes_at(registry, link) > registry.clock.now() or in_use(tx, repository_id, link.digest) is not None
