"""Whether a tag of the cache is believed, and whether it is the cache's at all.

Pure. Holds: what somebody pushed here is never replaced, and what an image of the configuration keeps in step is left
to its runs: they may have reasons to wait, such as a `minimum_age`.
"""

from __future__ import annotations

from homeport.config import mirroring as config
from homeport.mirror.addresses import Source
from homeport.mirror.origins import TagOrigin
from homeport.mirror.sightings import Sighting
from homeport.oci import globs
from homeport.oci.digest import Digest


def fresh_seconds(settings: config.Cache, tag: str) -> float:
    """How long the tag is believed without asking upstream again."""
    found = (each.fresh_for for each in settings.tags if globs.matches(each.tags, tag))
    return next(found, settings.fresh_for)


def is_fresh(digest: Digest, seen: Sighting | None, seconds: float, now: float) -> bool:
    """Whether upstream had it as it is here, not longer ago than that. A moment in the future was a wrong clock."""
    return seen is not None and seen.digest == digest and 0 <= now - seen.checked_at < seconds


def may_move(digest: Digest, origin: TagOrigin | None, source: Source) -> bool:
    """Whether a tag that points at `digest` may follow upstream: it is what was fetched, and no image has it."""
    if origin is None or origin.digest != digest or origin.source != source:
        return False
    return origin.image is None or origin.leaving == "dropped"
