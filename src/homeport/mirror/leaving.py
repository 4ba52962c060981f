"""Taking away what is no longer meant to be here: marks, and the removal of a tag whose grace is over.

Holds: a tag goes only if it still is what was copied, nothing protects it and nothing uses it; it goes as every tag
goes, so it can be brought back. Why, and since when, stands in its event.
"""

from __future__ import annotations

from typing import Final

from homeport.clock import rfc3339
from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.mirror import origins
from homeport.mirror.origins import TagOrigin
from homeport.mirror.plan import Departure, Departures
from homeport.oci.errors import TagImmutable
from homeport.registry import protections, repositories, standing, tags
from homeport.registry.registry import Registry
from homeport.registry.retention import why_protected
from homeport.registry.tags import Tag

#: What a removal says where the tag is gone or somebody's now, and where it came anew while the run went on.
_NOT_OURS: Final = "it is not what was copied any more"
_CHANGED: Final = "it changed meanwhile"


def mark(tx: Transaction, found: Departures) -> None:
    """Note what leaves, since when, and what came back."""
    for departure in found.leaving:
        origin = departure.origin
        if departure.is_news:
            origins.mark(tx, origin.repository, origin.tag, departure.leaving, departure.since)
    for origin in found.back:
        origins.mark(tx, origin.repository, origin.tag, None, None)


def why_stays(tx: Transaction, registry: Registry, departure: Departure) -> str | None:
    """Why the tag stays although its grace is over; None: it goes."""
    copied = _copied(tx, departure.origin)
    return _NOT_OURS if copied is None else _why_kept(tx, registry, departure.origin, *copied)


def remove(tx: Transaction, registry: Registry, origin: Origin, departure: Departure) -> str | None:
    """Remove the tag, and note that it came from nowhere; why it stays, where it does."""
    ours = departure.origin
    now = origins.find(tx, ours.repository, ours.tag)
    if now is None or (now.digest, now.leaving, now.leaving_since) != (ours.digest, ours.leaving, ours.leaving_since):
        return _CHANGED
    copied = _copied(tx, ours)
    if copied is None:
        origins.forget(tx, ours.repository, ours.tag)
        return _NOT_OURS
    repository_id, tag = copied
    if (why := _why_kept(tx, registry, ours, repository_id, tag)) is not None:
        return why
    try:
        tags.remove(tx, registry, origin, ours.repository, repository_id, tag, reason=reason(departure))
    except TagImmutable as error:
        return str(error)
    origins.forget(tx, ours.repository, ours.tag)
    return None


def _copied(tx: Transaction, origin: TagOrigin) -> tuple[int, Tag] | None:
    """The repository and the tag, if that still is what was copied."""
    repository_id = repositories.find(tx, origin.repository)
    tag = None if repository_id is None else tags.find(tx, repository_id, origin.tag)
    if repository_id is None or tag is None or tag.digest != origin.digest:
        return None
    return repository_id, tag


def _why_kept(tx: Transaction, registry: Registry, origin: TagOrigin, repository_id: int, tag: Tag) -> str | None:
    """What keeps a tag that was copied."""
    if unknown := protections.unknown_engines(tx, registry.rules.engines):
        return f"engine {unknown[0]} has never told what it runs"
    if (why := why_protected(registry.rules.retention, origin.repository)) is not None:
        return why
    return standing.in_use(tx, repository_id, tag.digest)


def reason(departure: Departure) -> str:
    """Such as `mirror: gone upstream since 2026-11-14T02:00:00Z`."""
    return f"mirror: {departure.leaving} since {rfc3339(int(departure.since))}"
